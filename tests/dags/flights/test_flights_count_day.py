"""`flights_count_day`: it takes each way and joins again."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

from shared.composing import branches


@pytest.mark.parametrize(
    ("rows", "status", "ran"),
    [
        (842, 200, {"count_small", "count_by_carrier"}),
        (2_000_000, 503, {"count_medium"}),
        (11_000_000, 503, {"count_large"}),
    ],
)
def test_each_way_joins_again(
    run_dag: Callable[..., DagRun],
    answer: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    status: int,
    ran: set[str],
) -> None:
    from flights.library.tables import TABLES
    from shared.loading.warehouse import create_tables, execute, transaction, warehouse_hook

    answer[0] = status
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "branches.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    monkeypatch.setattr(branches, "BUSINESS_HOURS", range(0))  # whenever this test runs
    hook = warehouse_hook()
    create_tables(hook, TABLES)
    with transaction(hook) as cursor:
        sql = (
            "INSERT INTO load_ledger (table_name, partition_key, rows_loaded, rows_rejected, run_id, loaded_at) "
            "VALUES ('flights', '2013-01-02', ?, 0, 'r', '2013-01-03')"
        )
        execute(hook, cursor, sql, [rows])

    run = run_dag("flights_count_day", dt.datetime(2013, 1, 2, tzinfo=dt.UTC))
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert run.state == "success"
    assert {name for name, state in states.items() if name.startswith("count") and state == "success"} == ran
    assert {state for name, state in states.items() if name.startswith("count") and name not in ran} <= {"skipped"}
    assert states["join"] == "success"


def test_a_day_that_is_not_loaded_fails_and_nothing_joins(
    run_dag: Callable[..., DagRun], answer: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flights.library.tables import FLIGHTS
    from shared.loading.warehouse import create_tables, warehouse_hook

    connection = {"conn_type": "sqlite", "host": str(tmp_path / "empty.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    create_tables(warehouse_hook(), [FLIGHTS])
    run = run_dag("flights_count_day", dt.datetime(2013, 1, 2, tzinfo=dt.UTC))
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert (run.state, states["choose_size"], states["join"]) == ("failed", "failed", "upstream_failed")
