"""Work through what does not fit into memory: a chunk at a time, summarised, and the summaries summarised again."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)
Sums = tuple[float, ...]

CHUNK_ROWS = 10_000
"""Of the Airflow field guides: a chunk of 20 columns of text is some 15 MB, and a larger one is hardly faster."""


def chunks(rows: Iterable[Row], size: int = CHUNK_ROWS) -> Iterator[list[Row]]:
    """The rows in lists of `size`, the last one shorter; no more than one of them is in memory.

    Raises:
        ValueError: The size is below 1.
    """
    if size < 1:
        raise ValueError(f"a chunk of {size} rows holds nothing.")
    waiting = iter(rows)
    while chunk := list(islice(waiting, size)):
        yield chunk


def sum_by(
    rows: Iterable[Row], key: Callable[[Row], Key], measures: Callable[[Row], Sums], size: int = CHUNK_ROWS
) -> dict[Key, Sums]:
    """Sums by key over any number of rows, in memory for one chunk and for as many sums as there are keys.

    Only what can be added up in parts: counts and sums, from which an average is made at the end, and no median.

    Args:
        rows: Read once, as they come.
        key: What a row is counted for.
        measures: What a row adds, always as many numbers.
        size: Rows of a chunk.
    """
    total: dict[Key, Sums] = {}
    for chunk in chunks(rows, size):
        part: dict[Key, Sums] = {}
        for row in chunk:
            _add(part, key(row), measures(row))
        for group, sums in part.items():
            _add(total, group, sums)
    return total


def _add(totals: dict[Key, Sums], key: Key, more: Sums) -> None:
    known = totals.get(key)
    totals[key] = more if known is None else tuple(a + b for a, b in zip(known, more, strict=True))
