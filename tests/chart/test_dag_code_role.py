"""The real DAG processor and triggerer, logged in with the role that they have in an environment."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_ops.environments.values import read_values
from airflow_ops.paths import ROOT
from airflow_ops.waiting import wait_until
from support.airflow_processes import AIRFLOW, DAG_CODE, OWNER, environment, execute, migrated_server, rights
from support.metadata_database import Server

pytestmark = pytest.mark.xdist_group("dag_code_role")  # they run once
HERE = Path(__file__).parent / "dag_code"
EVENTS = ("event", "error", "success", "failed", "retried", "variable")


@dataclass(frozen=True)
class Worked:
    """What the components have left.

    Attributes:
        server: The database.
        refused: What the server has refused their role.
    """

    server: Server
    refused: list[str]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.server.engine().connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]


@dataclass(frozen=True)
class Components:
    server: Server
    home: Path

    def variables(self, role: str, round_: int) -> dict[str, str]:
        bundle = {"path": str(self.home / "dags"), "refresh_interval": 1}
        listed = [
            {"name": "tests", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": bundle}
        ]
        more = {
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(listed),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(HERE / "plugins"),
            # Only triggers of assets that a DAG waits for which is not paused are started.
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "0",
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "PYTHONPATH": str(HERE / "plugins"),
            "ROUND": str(round_),
        }
        return environment(self.server, role, self.home, **more)

    def parse(self, round_: int) -> None:
        run([AIRFLOW, "dag-processor", "--num-runs", "2"], self.variables(DAG_CODE, round_))

    def seed(self, *names: str) -> None:
        run([sys.executable, HERE / "seed.py", *names], self.variables(OWNER, 1))

    def run_triggers(self) -> None:
        """Until no task is deferred any more, and a while longer."""
        log = self.home / "triggerer.log"
        with log.open("w") as output:
            command = [AIRFLOW, "triggerer", "--skip-serve-logs"]
            process = subprocess.Popen(command, env=self.variables(DAG_CODE, 1), stdout=output, stderr=output)
        query = "SELECT count(*) FROM task_instance WHERE state = 'deferred'"
        try:
            with self.server.engine().connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                done = wait_until(lambda: not connection.scalar(sa.text(query)) or process.poll() is not None, 240, 1)
            time.sleep(5)
            assert done, log.read_text()[-3000:]
            assert process.poll() is None, log.read_text()[-3000:]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def run(command: list[Any], variables: dict[str, str]) -> None:
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worked]:
    home = tmp_path_factory.mktemp("airflow")
    shutil.copytree(HERE / "dags", home / "dags")
    settings = read_values(ROOT / "values/base.yaml")["airflow"]["airflowLocalSettings"]
    (home / "config").mkdir()
    (home / "config/airflow_local_settings.py").write_text(settings)
    with migrated_server(home) as server:
        execute(server, "ALTER SYSTEM SET log_line_prefix = '%u: '", "SELECT pg_reload_conf()")
        answer = rights(server.url(OWNER), "grant")
        assert answer.returncode == 0, answer.stdout
        components = Components(server, home)
        components.seed("before")
        components.parse(1)
        components.seed(*EVENTS)
        components.run_triggers()
        components.parse(2)
        (home / "dags/everything.py").unlink()
        components.parse(3)
        log = (server.folder / "log").read_text().splitlines()
        yield Worked(server, [line for line in log if line.startswith(f"{DAG_CODE}: ERROR:  permission")])


def test_dags_are_stored_as_their_files_say(worked: Worked) -> None:
    stored = worked.rows("SELECT dag_id, count(*) FROM serialized_dag GROUP BY dag_id")
    assert {dag for dag, _ in stored} == {"everything", "on_assets", "on_alias", "goes"}
    assert worked.rows("SELECT name FROM dag_tag WHERE dag_id = 'everything' ORDER BY name") == [
        ("always",),
        ("round2",),
    ]
    assert {bool(stale) for (stale,) in worked.rows("SELECT is_stale FROM dag WHERE dag_id = 'everything'")} == {True}
    assert worked.rows("SELECT warning_type FROM dag_warning") == []


def test_an_import_error_comes_and_goes(worked: Worked) -> None:
    assert worked.rows("SELECT filename FROM import_error WHERE filename <> 'access.py'") == []


def test_a_dag_that_would_say_who_may_do_what_is_an_import_error(worked: Worked) -> None:
    ((text,),) = worked.rows("SELECT stacktrace FROM import_error WHERE filename = 'access.py'")
    assert "DAG open_to_all has access_control: remove it" in text
    assert worked.rows("SELECT * FROM serialized_dag WHERE dag_id = 'open_to_all'") == []


def test_events_of_triggers_reach_their_tasks(worked: Worked) -> None:
    states = dict(worked.rows(
        "SELECT run_id, state FROM task_instance WHERE trigger_id IS NULL AND task_id = CASE run_id "
        "WHEN 'retried' THEN 'retried' ELSE 'fires' END"
    ))  # fmt: skip
    assert states == {
        "event": "scheduled", "error": "scheduled", "success": "success", "failed": "failed",
        "retried": "up_for_retry", "variable": "scheduled",
    }  # fmt: skip
    methods = dict(worked.rows("SELECT run_id, next_method FROM task_instance WHERE state = 'scheduled'"))
    assert methods == {"event": "execute_complete", "error": "__fail__", "variable": "__fail__"}
    assert ("pushed",) in worked.rows("SELECT key FROM xcom WHERE run_id = 'success'")


def test_the_former_try_keeps_the_pod_settings_of_the_task(worked: Worked) -> None:
    same = "SELECT h.executor_config = ti.executor_config FROM task_instance_history AS h JOIN task_instance AS ti "
    assert worked.rows(f"{same} USING (dag_id, task_id, run_id, map_index)") == [(True,)]


def test_a_watched_asset_has_changed(worked: Worked) -> None:
    assert worked.rows("SELECT name FROM asset_event JOIN asset ON asset.id = asset_id") == [("watched",)]
    assert ("on_assets",) in worked.rows("SELECT target_dag_id FROM asset_dag_run_queue")


def test_callbacks_were_asked_for_and_run(worked: Worked) -> None:
    assert worked.rows("SELECT count(*) FROM callback") == [(0,)]


def test_the_components_have_told_that_they_work_and_end(worked: Worked) -> None:
    jobs = worked.rows("SELECT job_type, state, count(*) FROM job GROUP BY job_type, state ORDER BY job_type")
    assert jobs == [("DagProcessorJob", "success", 3), ("TriggererJob", "success", 1)]
    events = {event for (event,) in worked.rows("SELECT event FROM log")}
    assert {"cli_dag_processor", "cli_triggerer"} <= events


def test_nothing_but_the_variable_was_refused(worked: Worked) -> None:
    """A trigger may not set one; its task fails with the reason, and the triggerer goes on."""
    assert set(worked.refused) == {f"{DAG_CODE}: ERROR:  permission denied for table variable"}
    assert worked.rows("SELECT key FROM variable") == [("a_variable",)]
