"""What the monthly report says, computed by the warehouse: raw rows never leave it.

A flight counts as delayed from 15 minutes on (US Bureau of Transportation Statistics, on-time performance). Averages
are over departures, so cancelled flights do not enter them.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, TypedDict, cast

from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk.exceptions import AirflowFailException

from flights.library.tables import DAILY
from shared.authoring.partitions import days_of, next_month
from shared.loading.warehouse import query

DELAYED_MINUTES = 15

_FIGURES = f"""
    COUNT(*) AS flights,
    SUM(CASE WHEN dep_time IS NULL THEN 1 ELSE 0 END) AS cancelled,
    AVG(dep_delay * 1.0) AS mean_delay,
    SUM(CASE WHEN dep_delay >= {DELAYED_MINUTES} THEN 1 ELSE 0 END) AS delayed
"""
_MONTH = "flights.local_date >= ? AND flights.local_date < ?"
# A row of weather belongs to the flights of its airport that were to leave in its hour.
_WEATHER = """FROM flights JOIN weather ON weather.local_date = flights.local_date
    AND weather.origin = flights.origin AND weather.time_hour = flights.time_hour"""
_WEATHER_CLASSES = {
    "Rain or snow (inches an hour)": """CASE WHEN precip = 0 THEN '1 none'
        WHEN precip < 0.05 THEN '2 below 0.05' ELSE '3 0.05 and more' END""",
    "Visibility (miles)": """CASE WHEN visib >= 10 THEN '1 10 and more'
        WHEN visib >= 3 THEN '2 3 to 10' ELSE '3 below 3' END""",
    "Wind (miles an hour)": """CASE WHEN wind_speed < 10 THEN '1 below 10'
        WHEN wind_speed < 20 THEN '2 10 to 20' WHEN wind_speed >= 20 THEN '3 20 and more' END""",
}


class Figures(TypedDict):
    """Figures of a group of flights: counts, and the mean departure delay in minutes (None if none departed)."""

    flights: int
    cancelled: int
    mean_delay: float | None
    delayed: int


class Carrier(TypedDict):
    """A carrier: its code and its name."""

    carrier: str
    name: str


class CarrierSummary(Figures):
    """Figures of one carrier in the month; `worst_delay` in minutes."""

    carrier: str
    name: str
    worst_delay: int | None


class MonthSummary(TypedDict):
    """All that the report shows.

    Attributes:
        month: `2013-01`.
        total: Figures of all flights.
        carriers: Figures by carrier, most flights first.
        missing: Carriers of the month whose summary failed.
        hours: Figures by local hour of scheduled departure.
        days: Figures by day.
        weather: Figures by class, for each aspect of the weather.
        quality: The data-quality section.
    """

    month: str
    total: Figures
    carriers: list[CarrierSummary]
    missing: list[Carrier]
    hours: list[dict[str, Any]]
    days: list[dict[str, Any]]
    weather: dict[str, list[dict[str, Any]]]
    quality: dict[str, Any]


def carriers_of(hook: DbApiHook, month: date) -> list[Carrier]:
    """The carriers that flew in the month, by code.

    Raises:
        AirflowFailException: None did: the month is not loaded.
    """
    sql = f"""SELECT DISTINCT flights.carrier, airlines.name FROM flights
        JOIN airlines ON airlines.carrier = flights.carrier WHERE {_MONTH} ORDER BY flights.carrier"""  # noqa: S608
    carriers = [Carrier(carrier=row["carrier"], name=row["name"]) for row in query(hook, sql, _bounds(month))]
    if not carriers:
        raise AirflowFailException(f"no flights of {month:%Y-%m} are loaded: backfill flights_ingest_daily first.")
    return carriers


def summarise_carrier(hook: DbApiHook, month: date, carrier: Carrier) -> CarrierSummary:
    """Figures of one carrier."""
    sql = f"SELECT {_FIGURES}, MAX(dep_delay) AS worst_delay FROM flights WHERE {_MONTH} AND carrier = ?"  # noqa: S608
    row = _plain(query(hook, sql, [*_bounds(month), carrier["carrier"]])[0])
    return cast("CarrierSummary", {**carrier, **row})


def summarise_month(
    hook: DbApiHook, month: date, carriers: Sequence[Carrier] | None, summaries: Iterable[CarrierSummary] | None
) -> MonthSummary:
    """Put the month together; carriers without a summary are named, not dropped.

    Args:
        hook: The warehouse.
        month: Its first day.
        carriers: All that flew in it; None if they could not be listed.
        summaries: What there is of them.

    Raises:
        AirflowFailException: Without the carriers nobody knows which one is missing.
    """
    if not carriers:
        raise AirflowFailException("list_carriers gave no carriers: see its log.")
    found = sorted(summaries or [], key=lambda summary: -summary["flights"])
    names = {summary["carrier"] for summary in found}
    return MonthSummary(
        month=f"{month:%Y-%m}",
        total=_figures(hook, month, "", "")[0],
        carriers=found,
        missing=[carrier for carrier in carriers if carrier["carrier"] not in names],
        hours=_figures(hook, month, "hour,", "GROUP BY hour ORDER BY hour"),
        days=_figures(hook, month, "flights.local_date AS day,", "GROUP BY flights.local_date ORDER BY 1"),
        weather={aspect: _by_weather(hook, month, case) for aspect, case in _WEATHER_CLASSES.items()},
        quality=_quality(hook, month),
    )


def require_every_carrier(summary: MonthSummary, report: str) -> None:
    """Fail for good if a carrier is missing in the report.

    Raises:
        AirflowFailException: It names them.
    """
    missing = [f"{carrier['name']} ({carrier['carrier']})" for carrier in summary["missing"]]
    if missing:
        raise AirflowFailException(
            f"no summary of {', '.join(missing)}; {report} names them. Clear their tasks with all downstream."
        )


def _bounds(month: date) -> list[str]:
    return [month.isoformat(), next_month(month).isoformat()]


def _figures(hook: DbApiHook, month: date, column: str, group: str) -> list[Any]:
    rows = query(hook, f"SELECT {column} {_FIGURES} FROM flights WHERE {_MONTH} {group}", _bounds(month))  # noqa: S608
    return [_plain(row) for row in rows]


def _by_weather(hook: DbApiHook, month: date, case: str) -> list[dict[str, Any]]:
    """Figures by class; the leading digit of a class orders it and is then dropped."""
    sql = f"SELECT {case} AS class, {_FIGURES} {_WEATHER} WHERE {_MONTH} GROUP BY 1 ORDER BY 1"
    rows = [_plain(row) for row in query(hook, sql, _bounds(month))]
    return [{**row, "class": row["class"][2:]} for row in rows if row["class"] is not None]


def _quality(hook: DbApiHook, month: date) -> dict[str, Any]:
    """What was loaded and set aside, which days are not there, and the checks that did not pass.

    Only the run that the ledger names counts for a partition: its rows are those in the warehouse.
    """
    bounds = _bounds(month)
    ledger = query(
        hook,
        """SELECT table_name, COUNT(*) AS days, SUM(rows_loaded) AS loaded, SUM(rows_rejected) AS rejected
        FROM load_ledger WHERE partition_key >= ? AND partition_key < ? GROUP BY table_name ORDER BY table_name""",
        bounds,
    )
    checks = query(
        hook,
        """SELECT quality_results.table_name, check_name, severity, COUNT(*) AS days, SUM(observed) AS observed,
            MAX(detail) AS example
        FROM quality_results JOIN load_ledger ON load_ledger.table_name = quality_results.table_name
            AND load_ledger.partition_key = quality_results.partition_key
            AND load_ledger.run_id = quality_results.run_id
        WHERE quality_results.partition_key >= ? AND quality_results.partition_key < ? AND passed = 0
        GROUP BY quality_results.table_name, check_name, severity ORDER BY quality_results.table_name, check_name""",
        bounds,
    )
    rejected = query(
        hook,
        """SELECT table_name, partition_key, rows_rejected, rejected_uri FROM load_ledger
        WHERE partition_key >= ? AND partition_key < ? AND rows_rejected > 0 ORDER BY table_name, partition_key""",
        bounds,
    )
    loaded = query(
        hook,
        "SELECT partition_key FROM load_ledger WHERE table_name = ? AND partition_key >= ? AND partition_key < ?",
        [DAILY[0].name, *bounds],
    )
    there = {row["partition_key"] for row in loaded}
    return {
        "tables": [_plain(row) for row in ledger],
        "checks": [_plain(row) for row in checks],
        "rejected": [_plain(row) for row in rejected],
        "days_missing": [day.isoformat() for day in days_of(month) if day.isoformat() not in there],
    }


def _plain(row: dict[str, Any]) -> Any:
    """Values as JSON has them: Postgres gives sums and averages as decimals, and days as dates."""
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, date):
        return value.isoformat()
    number = float(value)
    return int(number) if number.is_integer() else number
