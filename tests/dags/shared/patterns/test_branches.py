"""Branches: the word for each case, and a DAG that takes each way and joins again."""

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

from shared.patterns import branches

NEW_YORK = "America/New_York"


@pytest.mark.parametrize(
    ("rows", "megabytes", "word"),
    [
        (1_000_000, 100, "small"),
        (1_000_001, 0, "medium"),
        (0, 100.1, "medium"),
        (10_000_000, 1000, "medium"),
        (10_000_001, 0, "large"),
        (0, 1000.1, "large"),
    ],
)
def test_by_volume(rows: int, megabytes: float, word: str) -> None:
    assert branches.by_volume(rows, megabytes) == word


@pytest.mark.parametrize(
    ("moment", "word"),
    [
        ("2013-01-04T14:00+00:00", "business"),  # Friday 09:00
        ("2013-01-04T13:59+00:00", "off_hours"),
        ("2013-01-04T21:59+00:00", "business"),
        ("2013-01-04T22:00+00:00", "off_hours"),
        ("2013-01-05T04:59+00:00", "off_hours"),  # still Friday in New York
        ("2013-01-05T05:00+00:00", "weekend"),
        ("2013-01-07T04:59+00:00", "weekend"),  # Monday in London
    ],
)
def test_by_time(moment: str, word: str) -> None:
    assert branches.by_time(dt.datetime.fromisoformat(moment), NEW_YORK) == word


def test_a_moment_without_time_zone_is_an_error() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        branches.by_time(dt.datetime(2013, 1, 4), NEW_YORK)  # noqa: DTZ001


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Status and text with which a server on this machine answers."""
    answers: list[Any] = [200, '{"scheduler": {"status": "healthy"}}']

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers[0])
            self.end_headers()
            self.wfile.write(answers[1].encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", f"http://127.0.0.1:{server.server_port}")
    yield answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "text", "word"),
    [
        (200, '{"a": {"status": "healthy"}, "b": {"status": "healthy"}}', "healthy"),
        (200, '{"a": {"status": "healthy"}, "b": {"status": null}}', "degraded"),
        (200, "<html>", "unavailable"),
        (200, "[]", "unavailable"),
        (503, '{"a": {"status": "healthy"}}', "unavailable"),
    ],
)
def test_by_health(answer: list[Any], status: int, text: str, word: str) -> None:
    answer[:] = [status, text]
    assert branches.by_health("airflow_api", "/health") == word


def test_a_service_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", "http://127.0.0.1:9")
    assert branches.by_health("airflow_api", "/health") == "unavailable"


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
