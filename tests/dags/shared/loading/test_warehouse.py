"""Loads replace whole partitions or change nothing: repeated, at once, killed half-way; on SQLite and on Postgres."""

import datetime as dt
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import pytest


def rows(sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Ask the warehouse of this test."""
    from shared.loading.warehouse import query, warehouse_hook

    return query(warehouse_hook(), sql, parameters)


def airlines_load(names: dict[str, str], **more: Any) -> Any:
    """A load of the table airlines."""
    from flights.library.tables import AIRLINES
    from shared.loading.warehouse import WHOLE, Load

    return Load(AIRLINES, WHOLE, list(names.items()), **more)


def weather_load(day: str, hours: Sequence[int], temperature: float, **more: Any) -> Any:
    """A load of one day of weather at JFK."""
    from flights.library.tables import WEATHER
    from shared.loading.warehouse import Load

    year, month, number = map(int, day.split("-"))
    rest = (None, None, None, None, None, None, None, None)
    weather = [("JFK", year, month, number, hour, temperature, *rest, f"{day}T{hour + 5:02}:00:00Z") for hour in hours]
    return Load(WEATHER, day, weather, **more)


@pytest.fixture
def hook(warehouse: str) -> Any:
    """The hook of an empty warehouse that has its tables."""
    from flights.library.tables import TABLES
    from shared.loading.warehouse import create_tables, warehouse_hook

    found = warehouse_hook()
    create_tables(found, TABLES)
    return found


def test_a_load_replaces_its_partition_and_no_other(hook: Any) -> None:
    from shared.loading.warehouse import load

    load(hook, [weather_load("2013-01-01", range(10), 30.0)], "first")
    load(hook, [weather_load("2013-01-02", range(4), 31.0)], "first")
    assert load(hook, [weather_load("2013-01-01", range(3), 32.5)], "second") == {"weather": 3}

    found = rows("SELECT local_date, COUNT(*) AS n, AVG(temp) AS t FROM weather GROUP BY local_date ORDER BY 1")
    assert [(str(row["local_date"]), row["n"], float(row["t"])) for row in found] == [
        ("2013-01-01", 3, 32.5),
        ("2013-01-02", 4, 31.0),
    ]


def test_the_ledger_has_the_last_load_of_each_partition(hook: Any) -> None:
    from shared.loading.warehouse import load

    load(hook, [airlines_load({"AA": "American"}, fingerprint="one")], "first")
    load(
        hook,
        [airlines_load({"AA": "American", "UA": "United"}, rejected=2, rejected_uri="file:///r", fingerprint="two")],
        "b",
    )

    entry = rows("SELECT * FROM load_ledger")
    assert len(entry) == 1
    assert (entry[0]["rows_loaded"], entry[0]["rows_rejected"], entry[0]["rejected_uri"], entry[0]["run_id"]) == (
        2,
        2,
        "file:///r",
        "b",
    )
    assert entry[0]["fingerprint"] == "two"


def test_a_load_that_fails_changes_nothing_in_any_table(hook: Any) -> None:
    from shared.loading.warehouse import load

    load(hook, [airlines_load({"AA": "American"}), weather_load("2013-01-01", range(3), 30.0)], "good")
    twice = weather_load("2013-01-01", [7, 7], 99.0)  # the same key twice: the database refuses
    with pytest.raises(Exception, match=r"(?i)unique"):
        load(hook, [airlines_load({"UA": "United"}), twice], "bad")

    assert [row["carrier"] for row in rows("SELECT carrier FROM airlines")] == ["AA"]
    assert rows("SELECT COUNT(*) AS n, MAX(temp) AS t FROM weather") == [{"n": 3, "t": 30.0}]
    assert {row["run_id"] for row in rows("SELECT run_id FROM load_ledger")} == {"good"}


def test_rows_that_do_not_arrive_undo_the_load(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.loading import warehouse

    warehouse.load(hook, [airlines_load({"AA": "American"})], "good")
    whole = warehouse.insert
    monkeypatch.setattr(
        warehouse,
        "insert",
        lambda hook, cursor, table, columns, some: whole(hook, cursor, table, columns, some[:-1]),
    )
    with pytest.raises(RuntimeError, match="2 rows given, 1 in the warehouse"):
        warehouse.load(hook, [airlines_load({"UA": "United", "DL": "Delta"})], "bad")
    assert [row["carrier"] for row in rows("SELECT carrier FROM airlines")] == ["AA"]


def test_more_rows_than_one_statement_takes(hook: Any) -> None:
    from shared.loading.warehouse import load

    many = {f"C{number}": "Name" for number in range(1234)}
    assert load(hook, [airlines_load(many)], "many") == {"airlines": 1234}


FORK = multiprocessing.get_context("fork")
"""Real processes that need not import Airflow again."""


def load_often(temperature: float, barrier: Any, times: int) -> None:
    """Load one day of 20 rows with this temperature, and one airline of this name, over and over."""
    from flights.library.tables import TABLES
    from shared.loading import warehouse

    hook = warehouse.warehouse_hook()
    barrier.wait(timeout=60)
    warehouse.create_tables(hook, TABLES)
    for _ in range(times):
        loads = [weather_load("2013-01-01", range(19), temperature), airlines_load({"AA": str(temperature)})]
        warehouse.load(hook, loads, str(temperature))


def load_and_die(temperature: float) -> None:
    """Start the same load, and be killed when the old rows are deleted and half of the new ones are in."""
    from shared.loading import warehouse

    whole = warehouse.insert

    def half(hook: Any, cursor: Any, table: str, columns: Sequence[str], some: Sequence[Any]) -> None:
        whole(hook, cursor, table, columns, some[: len(some) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    warehouse.insert = half
    load_often(temperature, FORK.Barrier(1), times=1)


def test_a_day_loaded_by_two_processes_at_once_is_that_of_one_of_them(warehouse: str) -> None:
    barrier = FORK.Barrier(2)  # the tables are not there yet either
    both = [FORK.Process(target=load_often, args=(temperature, barrier, 20)) for temperature in (10.0, 20.0)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=60)
    assert [process.exitcode for process in both] == [0, 0]

    found = rows("SELECT COUNT(*) AS n, MIN(temp) AS low, MAX(temp) AS high FROM weather")[0]
    winner = rows("SELECT run_id FROM load_ledger WHERE table_name = 'weather'")[0]["run_id"]
    assert found == {"n": 19, "low": float(winner), "high": float(winner)}
    assert rows("SELECT name FROM airlines") == [{"name": winner}]


def test_a_load_that_is_killed_leaves_the_old_rows_and_can_be_repeated(hook: Any) -> None:
    from shared.loading.warehouse import load

    load(hook, [weather_load("2013-01-01", range(7), 30.0), airlines_load({"AA": "old"})], "old")
    victim = FORK.Process(target=load_and_die, args=(40.0,))
    victim.start()
    victim.join(timeout=60)
    assert victim.exitcode == -signal.SIGKILL

    assert rows("SELECT COUNT(*) AS n, MAX(temp) AS t FROM weather") == [{"n": 7, "t": 30.0}]
    assert {row["run_id"] for row in rows("SELECT run_id FROM load_ledger")} == {"old"}

    load_often(40.0, FORK.Barrier(1), times=1)
    assert rows("SELECT COUNT(*) AS n, MIN(temp) AS t FROM weather") == [{"n": 19, "t": 40.0}]
    assert rows("SELECT name FROM airlines") == [{"name": "40.0"}]


def test_results_of_a_second_try_replace_those_of_the_first(hook: Any) -> None:
    from shared.loading.quality import Result
    from shared.loading.warehouse import record_results

    record_results(hook, "weather", "2013-01-01", [Result("a", "error", False, 3, 0, "bad")], "run")
    record_results(hook, "weather", "2013-01-01", [Result("a", "error", True, 0, 0)], "run")
    record_results(hook, "weather", "2013-01-01", [Result("a", "error", False, 1, 0, "bad")], "other run")
    found = rows("SELECT run_id, passed, observed FROM quality_results ORDER BY run_id")
    assert [(row["run_id"], row["passed"], row["observed"]) for row in found] == [
        ("other run", 0, 1.0),
        ("run", 1, 0.0),
    ]


def test_a_connection_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.loading.warehouse import warehouse_hook

    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "http", "host": "example.org"}')
    with pytest.raises(TypeError, match="connection warehouse is not a SQL database"):
        warehouse_hook()


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_transaction_on_sqlite_holds_the_write_lock_from_its_start(hook: Any, warehouse: str) -> None:
    """Else one that reads first is refused, instead of waiting, when another has written meanwhile."""
    from shared.loading.warehouse import transaction

    other = sqlite3.connect(json.loads(warehouse)["host"], timeout=0, isolation_level=None)
    with transaction(hook), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_transaction_that_takes_too_long_is_rolled_back(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short statements: the database has no limit for their sum."""
    from shared.loading import warehouse

    times = iter([0.0, 600.0, 0.0, 600.1])
    monkeypatch.setattr(warehouse, "monotonic", lambda: next(times))
    warehouse.load(hook, [airlines_load({"AA": "in time"})], "good")
    with pytest.raises(warehouse.TransactionTooLongError, match="longer than 0:10:00: rolled back"):
        warehouse.load(hook, [airlines_load({"AA": "late"})], "bad")
    assert rows("SELECT name FROM airlines") == [{"name": "in time"}]
    assert rows("SELECT run_id FROM load_ledger") == [{"run_id": "good"}]


def test_an_error_in_a_transaction_is_raised_as_it_is(hook: Any) -> None:
    from shared.loading.warehouse import transaction

    for limit in (None, dt.timedelta(minutes=1)):
        with pytest.raises(KeyError, match="mine"), transaction(hook, limit):
            raise KeyError("mine")
    with pytest.raises(SystemExit), transaction(hook, dt.timedelta(0)):  # too long, but it is to end
        raise SystemExit(143)


@pytest.mark.parametrize("warehouse", ["postgres"], indirect=True)
def test_a_statement_that_takes_too_long_is_ended(hook: Any) -> None:
    from shared.loading.warehouse import TransactionTooLongError, transaction

    started = time.monotonic()
    with (
        pytest.raises(TransactionTooLongError, match="longer than 0:00:00.200000"),
        transaction(hook, dt.timedelta(seconds=0.2)) as cursor,
    ):
        cursor.execute("SELECT pg_sleep(30)")
    assert time.monotonic() - started < 20
    with transaction(hook, None) as cursor:
        cursor.execute("SELECT pg_sleep(0.3)")


@pytest.mark.parametrize("warehouse", ["postgres"], indirect=True)
def test_a_load_does_not_wait_for_another_longer_than_it_may_take(hook: Any) -> None:
    from shared.loading.warehouse import TransactionTooLongError, execute, load, transaction

    load(hook, [airlines_load({"AA": "old"})], "old")
    touch = "UPDATE load_ledger SET run_id = run_id"
    with transaction(hook) as first:
        execute(hook, first, touch)
        with pytest.raises(TransactionTooLongError), transaction(hook, dt.timedelta(seconds=0.2)) as second:
            execute(hook, second, touch)


@pytest.mark.parametrize("warehouse", ["postgres"], indirect=True)
@pytest.mark.parametrize(("of_database", "found"), [("0", "10min"), ("1h", "10min"), ("5s", "5s")])
def test_a_shorter_limit_of_the_database_stays(hook: Any, of_database: str, found: str) -> None:
    from shared.loading.warehouse import query, transaction

    with transaction(hook) as cursor:
        cursor.execute("SELECT current_database()")
        cursor.execute(f"ALTER DATABASE \"{cursor.fetchone()[0]}\" SET statement_timeout = '{of_database}'")
    with transaction(hook) as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone()[0] == found
    assert query(hook, "SHOW statement_timeout") == [{"statement_timeout": of_database}]


NINE, TEN = (dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC) for hour in (9, 10))


def names() -> dict[str, str]:
    return {row["carrier"]: row["name"] for row in rows("SELECT carrier, name FROM airlines")}


def test_an_older_reading_of_the_source_that_ends_later_does_not_win(hook: Any) -> None:
    from shared.loading.warehouse import load

    load(hook, [airlines_load({"AA": "new"}, as_of=TEN)], "new")
    older = [weather_load("2013-01-01", range(3), 30.0), airlines_load({"AA": "old"}, as_of=NINE)]
    assert load(hook, older, "old") == {"weather": 3}, "what is not older is loaded"
    assert names() == {"AA": "new"}
    assert rows("SELECT run_id FROM load_ledger WHERE table_name = 'airlines'") == [{"run_id": "new"}]

    in_berlin = TEN.astimezone(dt.timezone(dt.timedelta(hours=1)))
    assert load(hook, [airlines_load({"AA": "again"}, as_of=in_berlin)], "a second try") == {"airlines": 1}
    assert load(hook, [airlines_load({"AA": "newer"}, as_of=TEN + dt.timedelta(microseconds=1))], "next")
    assert names() == {"AA": "newer"}


def test_readings_are_told_apart_by_partition(hook: Any) -> None:
    from shared.loading.warehouse import load

    load(hook, [weather_load("2013-01-01", range(3), 30.0, as_of=TEN)], "new")
    assert load(hook, [weather_load("2013-01-02", range(2), 20.0, as_of=NINE)], "other day") == {"weather": 2}
    assert load(hook, [weather_load("2013-01-01", range(9), 10.0, as_of=NINE)], "old") == {}
    assert rows("SELECT COUNT(*) AS n, MAX(temp) AS t FROM weather") == [{"n": 5, "t": 30.0}]


def test_a_whole_table_that_is_the_same_is_left_and_its_reading_counts(hook: Any) -> None:
    from shared.loading.warehouse import load

    load(hook, [airlines_load({"AA": "good"}, as_of=NINE, fingerprint="good")], "first")
    again = airlines_load({"AA": "good"}, as_of=TEN + dt.timedelta(hours=1), fingerprint="good")
    assert load(hook, [again], "second") == {}
    assert rows("SELECT run_id FROM load_ledger") == [{"run_id": "first"}]
    # Published by mistake in between, and taken back before the second run read.
    assert load(hook, [airlines_load({"AA": "bad"}, as_of=TEN, fingerprint="bad")], "late") == {}
    assert names() == {"AA": "good"}


def test_a_day_that_is_the_same_is_loaded_again_because_it_may_need_repair(hook: Any) -> None:
    from shared.loading.warehouse import execute, load, transaction

    load(hook, [weather_load("2013-01-01", range(3), 30.0, as_of=NINE, fingerprint="same")], "first")
    with transaction(hook) as cursor:
        execute(hook, cursor, "DELETE FROM weather")
    assert load(hook, [weather_load("2013-01-01", range(3), 30.0, as_of=TEN, fingerprint="same")], "again")
    assert rows("SELECT COUNT(*) AS n FROM weather") == [{"n": 3}]


def test_a_load_that_fails_leaves_no_reading(hook: Any) -> None:
    from shared.loading.warehouse import load

    twice = weather_load("2013-01-01", [7, 7], 99.0)  # the same key twice: the database refuses
    with pytest.raises(Exception, match=r"(?i)unique"):
        load(hook, [airlines_load({"AA": "failed"}, as_of=TEN), twice], "bad")
    assert load(hook, [airlines_load({"AA": "older"}, as_of=NINE)], "good") == {"airlines": 1}


def load_in_turn(hour: int, barrier: Any) -> None:
    from shared.loading import warehouse

    hook = warehouse.warehouse_hook()
    for minute in range(10):
        barrier.wait(timeout=60)
        as_of = NINE + dt.timedelta(hours=hour, minutes=minute)
        warehouse.load(hook, [airlines_load({"AA": as_of.isoformat()}, as_of=as_of)], str(hour))


@pytest.mark.usefixtures("hook")
def test_of_loads_at_once_the_newest_reading_wins() -> None:
    barrier = FORK.Barrier(4)
    workers = [FORK.Process(target=load_in_turn, args=(hour, barrier)) for hour in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert names() == {"AA": (NINE + dt.timedelta(hours=3, minutes=9)).isoformat()}
