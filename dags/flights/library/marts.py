"""The daily marts of the flights: tables, rules and transformations that `flights_build_marts` hands to its groups."""

from shared.composing.task_groups import Rows
from shared.loading.tables import Column, Table

CARRIER_DAYS = Table(
    name="flights_carrier_days",
    file="",
    columns=(
        Column("carrier", "text", required=True),
        Column("flights", "integer", required=True),
        Column("cancelled", "integer", required=True),
        Column("cancelled_share", "number", required=True),
        Column("mean_arr_delay", "number"),
    ),
    key=("carrier",),
    daily=True,
)
ROUTE_DAYS = Table(
    name="flights_route_days",
    file="",
    columns=(
        Column("origin", "text", required=True),
        Column("dest", "text", required=True),
        Column("flights", "integer", required=True),
        Column("miles", "integer", required=True),
    ),
    key=("origin", "dest"),
    daily=True,
)
ORIGIN_DAYS = Table(
    name="flights_origin_days",
    file="",
    columns=(
        Column("origin", "text", required=True),
        Column("routes", "integer", required=True),
        Column("flights", "integer", required=True),
        Column("share", "number", required=True),
    ),
    key=("origin",),
    daily=True,
)
CARRIERS_SQL = """
    SELECT carrier, COUNT(*) AS flights, SUM(CASE WHEN dep_time IS NULL THEN 1 ELSE 0 END) AS cancelled,
           AVG(arr_delay) AS mean_arr_delay
    FROM flights WHERE local_date = ? GROUP BY carrier"""
ROUTES_SQL = """
    SELECT origin, dest, COUNT(*) AS flights, SUM(distance) AS miles
    FROM flights WHERE local_date = ? GROUP BY origin, dest"""
ORIGINS_SQL = """
    SELECT origin, COUNT(*) AS routes, SUM(flights) AS flights,
           (SELECT SUM(flights) FROM flights_carrier_days WHERE local_date = ?) AS of_all
    FROM flights_route_days WHERE local_date = ? GROUP BY origin"""


def as_counted(table: str) -> str:
    """A query: whether a mart counts as many flights of a day as there are."""
    return (
        f"SELECT (SELECT SUM(flights) FROM {table} WHERE local_date = ?) = "  # noqa: S608  a name of this module
        "(SELECT COUNT(*) FROM flights WHERE local_date = ?)"
    )


def with_cancelled_share(rows: Rows) -> Rows:
    """Add the share (0 to 1) of a carrier's flights that were cancelled; the mean delay as a plain number."""
    mean = "mean_arr_delay"
    return [
        {
            **row,
            "cancelled_share": row["cancelled"] / row["flights"],
            mean: None if row[mean] is None else float(row[mean]),
        }
        for row in rows
    ]


def with_share(rows: Rows) -> Rows:
    """Add an origin's share (0 to 1) of all flights of the day."""
    return [
        {**row, "flights": int(row["flights"]), "share": float(row["flights"]) / float(row["of_all"])} for row in rows
    ]


def plain_numbers(rows: Rows) -> Rows:
    """Whole numbers as such: Postgres sums integers to decimals."""
    return [{**row, "miles": int(row["miles"])} for row in rows]
