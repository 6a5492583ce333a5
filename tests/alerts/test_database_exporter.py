"""What the database exporter exports of a real PostgreSQL with Airflow's tables, by scrapes of the running script."""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import InternalError, OperationalError

from support.metadata_database import (
    SCRIPT,
    DatabaseExporter,
    Server,
    insert,
    running_database_exporter,
    running_server,
)
from support.statsd_exporter import known_metrics

pytestmark = pytest.mark.xdist_group("database_exporter")  # what the module makes is made once
DAGS = 30


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def exporter(server: Server) -> Iterator[DatabaseExporter]:
    """As a user who may only read."""
    with running_database_exporter(server.url("watcher")) as exporter:
        yield exporter


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("database_exporter", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Rows:
    """Rows of Airflow's tables, written as Airflow writes them."""

    def __init__(self, connection: Connection) -> None:
        """Keep where they go."""
        self._connection = connection
        insert(connection, "dag_bundle", name="platform", active=True)

    def dag(self, dag_id: str, **values: Any) -> None:
        insert(self._connection, "dag", **{"dag_id": dag_id, "bundle_name": "platform", "is_paused": False} | values)

    def run(self, dag_id: str, run_id: str, **values: Any) -> int:
        row = {"dag_id": dag_id, "run_id": run_id, "run_type": "manual", "state": "running", "start_date": ago(5)}
        row |= {"run_after": ago(5), "queued_at": ago(5), "conf": {}, "log_template_id": None} | values
        insert(self._connection, "dag_run", **row)
        found = text("SELECT id FROM dag_run WHERE dag_id = :dag AND run_id = :run")
        return int(self._connection.execute(found, {"dag": dag_id, "run": run_id}).scalar_one())

    def task(self, dag_id: str, run_id: str, task_id: str, **values: Any) -> None:
        row = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "pool": "default_pool", "executor_config": {}}
        insert(self._connection, "task_instance", **row | {"updated_at": ago(0)} | values)

    def xcom(self, run: int, dag_id: str, run_id: str, task_id: str, value: Any) -> None:
        row = {"dag_run_id": run, "dag_id": dag_id, "run_id": run_id, "task_id": task_id, "key": "return_value"}
        insert(self._connection, "xcom", **row, value=value)

    def job(self, job_type: str, heartbeat: datetime) -> None:
        insert(self._connection, "job", job_type=job_type, state="running", latest_heartbeat=heartbeat)


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.fixture
def empty(server: Server) -> None:
    with server.engine().begin() as connection:
        connection.execute(text("TRUNCATE dag_bundle, dag, dag_run, task_instance, xcom, job CASCADE"))


def labelled(scrape: dict[Any, float], name: str, label: str) -> dict[str, float]:
    """Value of a label to the value of its series."""
    found = {labels: value for (metric, labels), value in scrape.items() if metric == f"airflow_database_{name}"}
    return {dict(re.findall(r'(\w+)="([^"]*)"', labels))[label]: value for labels, value in found.items()}


def alone(scrape: dict[Any, float], name: str) -> float:
    return scrape[f"airflow_database_{name}", ""]


@pytest.mark.usefixtures("empty")
def test_a_new_database_has_every_series_that_needs_no_event(exporter: DatabaseExporter) -> None:
    scrape = exporter.scrape()
    assert alone(scrape, "up") == 1
    success = labelled(scrape, "query_success", "query")
    assert set(success.values()) == {1.0}, success
    assert len(success) == 14
    assert set(labelled(scrape, "task_instances", "state").values()) == {0.0}
    assert labelled(scrape, "dag_runs", "state") == {"queued": 0, "running": 0}
    assert labelled(scrape, "task_instance_oldest_seconds", "state") == {"scheduled": 0, "queued": 0}
    assert labelled(scrape, "queue_wait_seconds", "quantile") == {"0.5": 0, "0.95": 0, "1": 0}
    assert alone(scrape, "task_heartbeat_oldest_seconds") == 0
    assert labelled(scrape, "job_heartbeat_age_seconds", "job_type") == {}, "no component has ever been there"
    assert 1 <= alone(scrape, "connections") <= alone(scrape, "connections_max") == 17
    assert alone(scrape, "size_bytes") > 1e6
    tables = labelled(scrape, "table_bytes", "table")
    assert tables.keys() >= {"task_instance", "xcom", "log"}
    assert all(tables.values())


@pytest.mark.usefixtures("empty")
def test_waits_and_heartbeats_are_those_of_the_rows(server: Server, exporter: DatabaseExporter) -> None:
    with server.engine().begin() as connection:
        rows = Rows(connection)
        rows.dag("load")
        rows.run("load", "r")
        rows.task("load", "r", "held", state="scheduled", scheduled_dttm=ago(3000))
        rows.task("load", "r", "waiting", state="queued", scheduled_dttm=ago(3000), queued_dttm=ago(200))
        rows.task("load", "r", "fresh", state="queued", scheduled_dttm=ago(90), queued_dttm=ago(20))
        running = {"state": "running", "last_heartbeat_at": ago(3), "queued_dttm": ago(110), "start_date": ago(100)}
        rows.task("load", "r", "running", **running)
        rows.task("load", "r", "silent", **running | {"last_heartbeat_at": ago(700), "start_date": ago(3600)})
        # Resumed: it keeps its first start.
        rows.task("load", "r", "resumed", **running | {"queued_dttm": ago(50)})
        # Yesterday's.
        old = {"state": "success", "queued_dttm": ago(90000), "start_date": ago(86400), "last_heartbeat_at": ago(86000)}
        rows.task("load", "r", "old", **old)
        rows.job("SchedulerJob", ago(4000))
        rows.job("SchedulerJob", ago(7))
        rows.job("TriggererJob", ago(70))
        rows.job("LocalTaskJob", ago(1))
    scrape = exporter.scrape()
    states = {state: n for state, n in labelled(scrape, "task_instances", "state").items() if n}
    assert states == {"scheduled": 1, "queued": 2, "running": 3}
    oldest = labelled(scrape, "task_instance_oldest_seconds", "state")
    assert oldest == {"scheduled": pytest.approx(3000, abs=60), "queued": pytest.approx(200, abs=60)}
    # 10 s of the one that runs, 20 and 200 s so far of the two that wait.
    waits = labelled(scrape, "queue_wait_seconds", "quantile")
    assert waits["0.5"] == pytest.approx(20, abs=15)
    assert waits["1"] == pytest.approx(200, abs=60)
    assert waits["0.5"] < waits["0.95"] < waits["1"]
    assert alone(scrape, "task_heartbeat_oldest_seconds") == pytest.approx(700, abs=60)
    ages = labelled(scrape, "job_heartbeat_age_seconds", "job_type")
    assert ages == {"SchedulerJob": pytest.approx(7, abs=60), "TriggererJob": pytest.approx(70, abs=60)}


@pytest.mark.usefixtures("empty")
def test_a_run_is_stuck_where_nothing_of_it_is_on_its_way(server: Server, exporter: DatabaseExporter) -> None:
    long_ago = {"start_date": ago(3600), "run_after": ago(3600), "queued_at": ago(3700)}
    ended = {"state": "success", "updated_at": ago(3000)}
    with server.engine().begin() as connection:
        rows = Rows(connection)
        for dag_id in ("stuck", "working", "waiting", "asking", "just_done", "new"):
            rows.dag(dag_id)
        rows.dag("paused", is_paused=True)
        for dag_id in ("stuck", "working", "waiting", "asking", "just_done", "paused"):
            rows.run(dag_id, "r", **long_ago)
            rows.task(dag_id, "r", "first", **ended)
            rows.task(dag_id, "r", "next", state=None, updated_at=ago(3000))
        rows.task("working", "r", "third", state="running", updated_at=ago(3000))
        rows.task("waiting", "r", "third", state="deferred", updated_at=ago(3000))
        rows.task("asking", "r", "third", state="awaiting_input", updated_at=ago(3000))
        rows.task("just_done", "r", "third", **ended | {"updated_at": ago(60)})
        rows.run("new", "r")
        rows.run("new", "later", state="queued", start_date=None, queued_at=ago(500))
        rows.run("new", "over", state="success")
    scrape = exporter.scrape()
    assert labelled(scrape, "dag_runs_stuck", "dag_id") == {"stuck": 1}
    assert labelled(scrape, "dag_runs", "state") == {"queued": 1, "running": 7}
    oldest = labelled(scrape, "dag_run_oldest_seconds", "state")
    assert oldest == {"queued": pytest.approx(500, abs=60), "running": pytest.approx(3600, abs=60)}


@pytest.mark.usefixtures("empty")
def test_a_dag_that_is_served_has_its_owner(server: Server, exporter: DatabaseExporter) -> None:
    with server.engine().begin() as connection:
        rows = Rows(connection)
        rows.dag("load", owners="flights", is_stale=False)
        rows.dag("check", owners=None, is_stale=False)
        rows.dag("gone", owners="flights", is_stale=True)
    exported = {labels for name, labels in exporter.scrape() if name == "airflow_database_dag_info"}
    assert exported == {'dag_id="load",owner="flights"', 'dag_id="check",owner=""'}


@pytest.mark.usefixtures("empty")
def test_the_largest_xcom_is_that_of_a_run_of_today(server: Server, exporter: DatabaseExporter) -> None:
    with server.engine().begin() as connection:
        rows = Rows(connection)
        rows.dag("load")
        now = rows.run("load", "now")
        yesterday = rows.run("load", "yesterday", state="success", run_after=ago(90000), start_date=ago(90000))
        rows.task("load", "now", "a")
        rows.task("load", "yesterday", "a")
        # Nothing that PostgreSQL could press together.
        rows.xcom(now, "load", "now", "a", os.urandom(150_000).hex())
        rows.xcom(yesterday, "load", "yesterday", "a", os.urandom(450_000).hex())
    assert 100_000 < alone(exporter.scrape(), "xcom_largest_bytes") < 310_000


@pytest.mark.usefixtures("empty")
def test_more_dags_and_tasks_are_not_more_series(server: Server, exporter: DatabaseExporter) -> None:
    before = exporter.scrape().keys()
    with server.engine().begin() as connection:
        rows = Rows(connection)
        for number in range(DAGS):
            rows.dag(f"dag_{number}")
            rows.run(f"dag_{number}", "r", start_date=ago(3600), queued_at=ago(3600))
            rows.task(f"dag_{number}", "r", "t", state="success", updated_at=ago(3000))
    grown = exporter.scrape().keys() - before
    assert {name for name, _ in grown} == {"airflow_database_dag_runs_stuck"}
    assert len(grown) == 20, "as many DAGs as are named at most"
    assert len(exporter.scrape()) < 100


def test_a_locked_table_spoils_only_what_reads_it(server: Server, exporter: DatabaseExporter) -> None:
    """As a migration locks it."""
    with server.engine().begin() as connection:
        connection.execute(text("LOCK TABLE job IN ACCESS EXCLUSIVE MODE"))
        scrape = exporter.scrape()
    failed = {query for query, success in labelled(scrape, "query_success", "query").items() if not success}
    assert failed == {"job_heartbeat_age_seconds", "table_bytes"}
    assert alone(scrape, "up") == 1
    assert set(labelled(exporter.scrape(), "query_success", "query").values()) == {1.0}, "and it is over"


def test_a_database_that_went_away_is_reported_and_its_return_too(server: Server, exporter: DatabaseExporter) -> None:
    server.stop()
    try:
        scrape = exporter.scrape()
        assert {name for name, _ in scrape} == {"airflow_database_up", "airflow_database_scrape_seconds"}
        assert alone(scrape, "up") == 0
        assert exporter.get("/health").status_code == 200, "restarting the exporter would not bring the database back"
    finally:
        server.start()
    assert alone(exporter.scrape(), "up") == 1


def test_it_keeps_its_one_connection_when_there_are_no_more(server: Server, exporter: DatabaseExporter) -> None:
    exporter.scrape()
    others: list[Connection] = []
    try:
        with contextlib.suppress(OperationalError):
            while len(others) < 30:
                others.append(server.engine("watcher").connect())
        scrape = exporter.scrape()
        assert alone(scrape, "up") == 1
        assert alone(scrape, "connections") >= alone(scrape, "connections_max") == len(others) + 1
    finally:
        for connection in others:
            connection.close()


def test_it_cannot_write(server: Server, script: ModuleType) -> None:
    """Even as Airflow's own user."""
    engine = script.connect(server.url())
    with pytest.raises(InternalError, match="read-only transaction"):
        script.read(engine, "CREATE TABLE mine (id int)")
    engine.dispose()


def test_it_gives_up_what_takes_long(server: Server, script: ModuleType) -> None:
    engine = script.connect(server.url("watcher"))
    with pytest.raises(OperationalError, match="statement timeout"):
        script.read(engine, "SELECT pg_sleep(30)")
    engine.dispose()


def test_its_states_are_those_of_airflow(script: ModuleType) -> None:
    from airflow.utils.state import State

    assert set(script.UNFINISHED_TASKS) == {str(state) for state in State.unfinished if state}


def test_the_list_of_metrics_has_what_it_tells(script: ModuleType) -> None:
    listed = {name: row["labels"] for name, row in known_metrics().items() if name.startswith("airflow_database_")}
    exported = {f"airflow_database_{metric.name}": ",".join(metric.labels) or "-" for metric in script.METRICS}
    own = {"up": "-", "scrape_seconds": "-", "query_success": "query"}
    assert listed == exported | {f"airflow_database_{name}": labels for name, labels in own.items()}


def test_other_pages_are_none(exporter: DatabaseExporter) -> None:
    assert exporter.get("/").status_code == 404
