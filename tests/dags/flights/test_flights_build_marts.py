"""`flights_build_marts`: three groups of tasks that load a day with its checks."""

import datetime as dt
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.sdk.exceptions import AirflowFailException

from flights.library import marts

DAY = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
NO_DAY = dt.datetime(2013, 2, 1, tzinfo=dt.UTC)
FLIGHTS = 842


def states(run: DagRun) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


def rows(platform: Any, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(platform.warehouse) as database:
        return database.execute(sql).fetchall()


@pytest.mark.usefixtures("first_of_january")
def test_a_day_becomes_its_marts_and_again_the_same(run_dag: Callable[..., DagRun], platform: Any) -> None:
    names = [table.name for table in (marts.CARRIER_DAYS, marts.ROUTE_DAYS, marts.ORIGIN_DAYS)]
    found = []
    for _ in range(2):
        run = run_dag("flights_build_marts", DAY)
        assert set(states(run).values()) == {"success"}
        found.append([rows(platform, f"SELECT * FROM {name} ORDER BY 1, 2, 3") for name in names])  # noqa: S608
    assert found[0] == found[1]
    for name in names:
        assert rows(platform, f"SELECT SUM(flights) FROM {name}") == [(FLIGHTS,)]  # noqa: S608
    checks = rows(platform, "SELECT DISTINCT check_name FROM quality_results WHERE table_name LIKE 'flights_%_days'")
    assert {name for (name,) in checks} == {"carriers_there", "carriers_without_delay", "routes_there", "all_origins"}
    staged = platform.object_storage / "staging/flights_build_marts"
    assert [path for path in staged.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("first_of_january")
def test_a_group_whose_rows_break_a_rule_loads_nothing(run_dag: Callable[..., DagRun], platform: Any) -> None:
    run = run_dag("flights_build_marts", NO_DAY)
    found = states(run)
    assert run.state == "failed"
    assert found["carriers.quality_check"] == found["routes.quality_check"] == "failed"
    assert found["carriers.load"] == found["origins.extract"] == "upstream_failed"
    assert found["carriers.remove_staging"] == "success"


@pytest.mark.usefixtures("first_of_january")
def test_what_the_validation_refuses_stops_what_depends_on_it(
    run_dag: Callable[..., DagRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marts, "as_counted", lambda table: "SELECT 0")
    found = states(run_dag("flights_build_marts", DAY))
    assert (found["carriers.load"], found["carriers.validate"]) == ("success", "failed")
    assert found["origins.extract"] == "upstream_failed"


@pytest.mark.usefixtures("first_of_january")
def test_an_extract_that_fails_leaves_no_folder(
    run_dag: Callable[..., DagRun], storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What removes the group's files at the end runs only after an extract that succeeded."""
    from shared.loading import staging

    write = staging.write_parquet

    def write_and_fail(table: Any, path: Any) -> None:
        write(table, path)
        if "routes" in str(path):
            raise AirflowFailException("the object storage is full")

    monkeypatch.setattr(staging, "write_parquet", write_and_fail)
    found = states(run_dag("flights_build_marts", DAY))
    assert (found["routes.extract"], found["routes.remove_staging"]) == ("failed", "upstream_failed")
    assert found["carriers.validate"] == "success"
    assert [path for path in storage.rglob("*") if path.is_file() or path.name in ("carriers", "routes")] == []
