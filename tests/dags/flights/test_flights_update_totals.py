"""Incremental load: late rows, old days, failures and two runs at once, on SQLite and Postgres."""

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

from flights.library.carrier_totals import update_carrier_days
from flights.library.tables import FLIGHTS, TABLES
from shared.loading import warehouse
from shared.loading.incremental import take_changes
from shared.loading.warehouse import (
    TRANSACTION_LIMIT,
    Load,
    create_tables,
    execute,
    load,
    query,
    transaction,
    warehouse_hook,
)

DAY_1, DAY_2 = "2013-01-01", "2013-01-02"


def flight(day: str, number: int, carrier: str = "UA") -> tuple[Any, ...]:
    """A flight that left 20 minutes late."""
    year, month, date = map(int, day.split("-"))
    hour = dt.datetime(year, month, date, 15, tzinfo=dt.UTC).isoformat()
    return (
        *(
            year,
            month,
            date,
            1020,
            1000,
            20,
            1200,
            1140,
            20,
            carrier,
            number,
            None,
            "EWR",
            "ORD",
            100,
            700,
            10,
            0,
            hour,
        ),
    )


def put(hook: Any, day: str, flights: int, carrier: str = "UA") -> None:
    load(hook, [Load(FLIGHTS, day, [flight(day, number, carrier) for number in range(1, flights + 1)])], "run")


def stamp(hook: Any, day: str, loaded_at: str) -> None:
    """Move a day's load to another time."""
    with transaction(hook) as cursor:
        execute(hook, cursor, "UPDATE load_ledger SET loaded_at = ? WHERE partition_key = ?", [loaded_at, day])


def totals(hook: Any) -> dict[tuple[str, str], int]:
    return {(str(r["local_date"]), r["carrier"]): r["flights"] for r in query(hook, "SELECT * FROM carrier_days")}


def mark(hook: Any) -> str:
    return str(query(hook, "SELECT mark FROM high_water_marks WHERE name = 'carrier_days'")[0]["mark"])


@pytest.fixture
def hook(warehouse: str) -> Any:
    """A warehouse of either kind whose two days were loaded an hour apart, and taken over."""
    hook = warehouse_hook()
    create_tables(hook, TABLES)
    assert update_carrier_days(hook).rows == 0, "nothing is loaded"
    for day, hour in ((DAY_1, "10"), (DAY_2, "11")):
        put(hook, day, 2)
        stamp(hook, day, f"2026-01-01T{hour}:00:00+00:00")
    assert update_carrier_days(hook).rows == 2
    assert totals(hook) == {(DAY_1, "UA"): 2, (DAY_2, "UA"): 2}
    return hook


def test_only_what_changed_is_taken(hook: Any) -> None:
    with transaction(hook) as cursor:  # would be mended if the day were computed again
        execute(hook, cursor, "UPDATE carrier_days SET flights = 77 WHERE local_date = ?", [DAY_1])
    put(hook, "2013-01-03", 5)

    update_carrier_days(hook)

    assert totals(hook) == {(DAY_1, "UA"): 77, (DAY_2, "UA"): 2, ("2013-01-03", "UA"): 5}


def test_an_old_day_that_is_loaded_again_counts(hook: Any) -> None:
    """With a row that came late, and a carrier that is gone."""
    put(hook, DAY_1, 3, carrier="AA")
    update_carrier_days(hook)
    assert totals(hook) == {(DAY_1, "AA"): 3, (DAY_2, "UA"): 2}


def test_a_load_that_began_before_the_mark_and_ended_after_it_counts(hook: Any) -> None:
    put(hook, "2013-01-03", 1)
    stamp(hook, "2013-01-03", "2026-01-01T10:55:00+00:00")  # the mark is at 11:00

    before = mark(hook)
    update_carrier_days(hook)

    assert totals(hook)[("2013-01-03", "UA")] == 1
    assert mark(hook) == before, "a mark never moves back"


def test_a_load_that_takes_as_long_as_it_may_counts(hook: Any) -> None:
    """One that takes longer is rolled back, so none can be overlooked."""
    newest = dt.datetime.fromisoformat(mark(hook))
    put(hook, "2013-01-03", 1)
    stamp(hook, "2013-01-03", (newest - TRANSACTION_LIMIT - dt.timedelta(seconds=30)).isoformat())

    update_carrier_days(hook)

    assert totals(hook)[("2013-01-03", "UA")] == 1


def test_who_takes_changes_over_may_take_long(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that it writes is stamped, and the first time there may be much."""

    def work(*_: Any) -> int:
        monkeypatch.setattr(warehouse, "monotonic", lambda: float("inf"))
        return 7

    assert take_changes(hook, "carrier_days", "SELECT MAX(loaded_at) FROM load_ledger", work).rows == 7


def test_a_failure_leaves_rows_and_mark(hook: Any) -> None:
    put(hook, DAY_2, 9)
    before = (totals(hook), mark(hook))

    def fails(cursor: Any, low: str) -> int:
        execute(hook, cursor, "DELETE FROM carrier_days")
        raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        take_changes(hook, "carrier_days", "SELECT MAX(loaded_at) FROM load_ledger", fails)

    assert (totals(hook), mark(hook)) == before
    update_carrier_days(hook)
    assert totals(hook)[(DAY_2, "UA")] == 9


def test_runs_at_once_leave_what_one_leaves(hook: Any) -> None:
    for number in range(3, 9):
        put(hook, f"2013-01-{number:02}", number)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            update_carrier_days(hook)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert totals(hook) == {(DAY_1, "UA"): 2, (DAY_2, "UA"): 2} | {(f"2013-01-{n:02}", "UA"): n for n in range(3, 9)}


def test_the_dag_repairs_from_a_given_time(hook: Any, run_dag: Callable[..., DagRun]) -> None:
    with transaction(hook) as cursor:
        execute(hook, cursor, "UPDATE carrier_days SET flights = 77")

    assert run_dag("flights_update_totals").state == "success"
    assert totals(hook)[(DAY_1, "UA")] == 77, "not changed since"
    assert run_dag("flights_update_totals", conf={"since": "2026-01-01T00:00:00+00:00"}).state == "success"
    assert totals(hook) == {(DAY_1, "UA"): 2, (DAY_2, "UA"): 2}
