"""Files of rows: the lines of delimited text, and the columns that a file has."""

import codecs
import csv
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import ObjectStoragePath

PARQUET = ".parquet"


@contextmanager
def lines_of(path: ObjectStoragePath) -> Iterator[Iterator[bytes]]:
    """The lines of a file, or of the one file in an archive."""
    with path.open("rb") as file:  # type: ignore[no-untyped-call]
        if path.suffix != ".zip":
            yield iter(file)
            return
        with zipfile.ZipFile(file) as archive, archive.open(archive.namelist()[0]) as member:
            yield iter(io.BufferedReader(member, buffer_size=1 << 20))  # type: ignore[type-var]


def fields_of(line: bytes) -> list[str]:
    """Split one line by itself, so that a stray quote spoils one row and not all rows after it."""
    return next(csv.reader([line.decode("utf-8", errors="replace")]), [])


def header_of(lines: Iterator[bytes]) -> list[str]:
    """The names in the first line, which is consumed; an empty list if there is no line."""
    return fields_of(next(lines, b"").removeprefix(codecs.BOM_UTF8))


def column_names(path: ObjectStoragePath) -> list[str]:
    """The columns of a Parquet file, or those in the first line of a delimited text, packed by zip or not.

    Raises:
        ValueError: The file cannot be read as what its name says: it is cut off, or of another kind.
    """
    try:
        if path.suffix == PARQUET:
            import pyarrow.parquet as pq

            with path.open("rb") as file:  # type: ignore[no-untyped-call]
                return list(pq.read_schema(file).names)
        with lines_of(path) as lines:
            return header_of(lines)
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is not an archive: {error}") from error
