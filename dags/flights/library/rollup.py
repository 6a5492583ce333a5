"""The year of flights by day and carrier, made from the published file without holding it in memory."""

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypedDict

from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException

from flights.library.report import DELAYED_MINUTES
from flights.library.tables import FLIGHTS
from shared.loading.chunks import CHUNK_ROWS, Sums, sum_by
from shared.loading.data_files import header_of, lines_of

if TYPE_CHECKING:
    import pyarrow as pa


class CarrierDay(TypedDict):
    """One carrier's day: how many flights, how many of them cancelled, delayed, and minutes of delay in all."""

    day: str
    carrier: str
    flights: int
    cancelled: int
    delayed: int
    delay_minutes: int


def carrier_days(source: ObjectStoragePath, chunk_rows: int = CHUNK_ROWS) -> list[CarrierDay]:
    """All days and carriers of the published file, in order.

    Args:
        source: The folder of the published files.
        chunk_rows: Flights that are in memory at once.

    Raises:
        AirflowFailException: The file has no flights.
    """
    sums = sum_by(_flights(source), lambda flight: (_day(flight), flight["carrier"]), _measures, chunk_rows)
    if not sums:
        raise AirflowFailException(f"{source / FLIGHTS.file} has no flights.")
    return [
        CarrierDay(
            day=day,
            carrier=carrier,
            flights=int(found[0]),
            cancelled=int(found[1]),
            delayed=int(found[2]),
            delay_minutes=int(found[3]),
        )
        for (day, carrier), found in sorted(sums.items())
    ]


def to_arrow(days: list[CarrierDay]) -> "pa.Table":
    """A column a key."""
    import pyarrow as pa

    return pa.Table.from_pylist([dict(day) for day in days])


def _flights(source: ObjectStoragePath) -> Iterator[dict[str, str]]:
    with lines_of(source / FLIGHTS.file) as lines:
        header = header_of(lines)
        text = (line.decode(errors="replace") for line in lines)
        # No quotes: none is in the file, and a stray one spoils its row and not all that follow.
        yield from csv.DictReader(text, header, quoting=csv.QUOTE_NONE)


def _day(flight: dict[str, str]) -> str:
    return f"{flight['year']}-{int(flight['month']):02}-{int(flight['day']):02}"


def _measures(flight: dict[str, str]) -> Sums:
    departed = flight["dep_time"] not in ("", "NA")
    delay = int(flight["dep_delay"]) if departed else 0
    return 1, int(not departed), int(delay >= DELAYED_MINUTES), max(delay, 0)
