"""The health DAG, run whole against a warehouse, an object storage and a small server in place of the API server."""

import datetime as dt
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

ALL = {"metadata database", "scheduler", "triggerer", "dag processor", "bundle", "warehouse", "object storage"}


def ago(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)).isoformat()


@dataclass
class Api:
    """What the API server is to answer; the shapes are those of Airflow 3.3.2, taken from a running one."""

    port: int = 0
    ages: dict[str, float] = field(default_factory=dict)
    database: str = "healthy"
    parsed_seconds_ago: float = 1

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if path == "/api/v2/monitor/health":
            body: dict[str, Any] = {"metadatabase": {"status": self.database}}
            for name in ("scheduler", "triggerer", "dag_processor"):
                body[name] = {"status": "healthy", f"latest_{name}_heartbeat": ago(self.ages.get(name, 1))}
            return 200, body
        return 200, {"dag_id": path.rsplit("/", 1)[1], "last_parsed_time": ago(self.parsed_seconds_ago)}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A server of the test: a real API server takes half a minute to start. `make up` has a real one."""
    served = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_with = self.headers.get("Authorization")
            if self.path != "/api/v2/monitor/health" and asked_with != "Bearer token-of-the-test":
                return self.reply(401, {"detail": "Not authenticated"})
            return self.reply(*served.answer(self.path))

        def do_POST(self) -> None:
            login = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            right = login == {"username": "admin", "password": "secret-of-the-test"}
            self.reply(*((201, {"access_token": "token-of-the-test"}) if right else (401, {"detail": "Unauthorized"})))

        def reply(self, status: int, body: dict[str, Any]) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        served.port = server.server_port
        use_api(monkeypatch, port=served.port)
        yield served
        server.shutdown()


def use_api(monkeypatch: pytest.MonkeyPatch, port: int, password: str = "secret-of-the-test") -> None:  # noqa: S107
    connection = {"conn_type": "http", "host": "127.0.0.1", "port": port, "login": "admin", "password": password}
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps(connection))


def rows(warehouse: Any, run: DagRun) -> dict[str, tuple[bool, str]]:
    query = "SELECT name, healthy, detail FROM health_checks WHERE run_id = ?"
    with sqlite3.connect(warehouse) as connection:
        return {name: (bool(healthy), detail) for name, healthy, detail in connection.execute(query, (run.run_id,))}


def unhealthy(found: dict[str, tuple[bool, str]]) -> dict[str, str]:
    return {name: detail for name, (healthy, detail) in found.items() if not healthy}


def test_a_healthy_platform_passes_and_each_check_leaves_a_row(
    run_dag: Callable[..., DagRun], api: Api, platform: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_dag("platform_check_health")

    assert run.state == "success"
    found = rows(platform.warehouse, run)
    assert set(found) == ALL
    assert unhealthy(found) == {}
    assert list(platform.object_storage.rglob("*.json")) == []
    printed = capfd.readouterr()
    assert "SELECT 1 answered" in printed.out + printed.err


def test_each_fault_is_reported_and_hides_no_other(
    run_dag: Callable[..., DagRun], api: Api, platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.ages = {"scheduler": 61, "triggerer": 59, "dag_processor": 3600}
    api.database = "unhealthy"
    api.parsed_seconds_ago = 301
    monkeypatch.setenv("AIRFLOW_VAR_OBJECT_STORAGE_URI", "file:///proc/no-such-place")

    run = run_dag("platform_check_health")

    assert run.state == "failed"
    assert [ti.state for ti in run.get_task_instances() if ti.task_id == "check"] == ["success"]
    found = unhealthy(rows(platform.warehouse, run))
    assert set(found) == {"metadata database", "scheduler", "dag processor", "bundle", "object storage"}
    assert found["scheduler"] == "UnhealthyError: last heartbeat of scheduler 61 s ago, more than 60 s"
    assert "301 s ago, more than 300 s" in found["bundle"]


def test_a_refused_login_fails_only_what_needs_one(
    run_dag: Callable[..., DagRun], api: Api, platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_api(monkeypatch, api.port, password="wrong")  # noqa: S106

    run = run_dag("platform_check_health")

    assert run.state == "failed"
    found = unhealthy(rows(platform.warehouse, run))
    assert set(found) == {"bundle"}
    assert "401" in found["bundle"]
    assert "wrong" not in found["bundle"]


def test_without_a_warehouse_the_run_still_reports_all(
    run_dag: Callable[..., DagRun], api: Api, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = json.dumps({"conn_type": "sqlite", "host": "/proc/no-such-place/warehouse.db"})
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", nowhere)

    run = run_dag("platform_check_health")

    assert run.state == "failed"
    assert [ti.state for ti in run.get_task_instances() if ti.task_id == "record"] == ["failed"]
    printed = capfd.readouterr()
    found = printed.out + printed.err
    assert "wrote, read and deleted" in found
    assert "results not recorded: OperationalError" in found
