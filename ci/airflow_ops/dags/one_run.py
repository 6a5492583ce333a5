"""`dags test`: one DAG from its first task to its last in a process of its own, by Airflow's `dag.test()`."""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from airflow_ops.console import err, fail, progress
from airflow_ops.dags.lint import files_of
from airflow_ops.dags.trials import date_of
from airflow_ops.environments.environment import Environment
from airflow_ops.paths import DAGS, PLUGINS, STATE


def run_here(dag_id: str, partition: str | None, conf: str | None, up: bool) -> bool:
    """Run a DAG; its output goes to standard error and the states of its tasks to standard output.

    Args:
        dag_id: The DAG.
        partition: A day or month; the run gets it as its logical date, since `dag.test()` knows no partition key.
        conf: The run's conf as JSON.
        up: Whether to work on the warehouse and object storage of `make up`, in place of empty ones.

    Returns:
        Whether the run succeeded.

    Raises:
        ProblemError: An argument is malformed, or there is no such DAG.
    """
    wanted = {
        "dag_id": dag_id,
        "file": str(files_of([dag_id])[0]),
        "logical_date": _moment(partition),
        "conf": _conf(conf),
    }
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as home:
        data = STATE if up else Path(home)
        (data / "object-storage").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", __name__, json.dumps(wanted)]
        with progress() as bar:
            bar.add_task(f"running {dag_id}", total=None)
            done = subprocess.run(command, env=_environment(Path(home), data), stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        err.print(f"{dag_id} could not be run: the cause is above.")
        return False
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for task, state in found["tasks"].items():
        sys.stdout.write(f"{state:16}{task}\n")
    sys.stdout.write(f"{dag_id} is {found['state']}\n")
    return bool(found["state"] == "success")


def _moment(partition: str | None) -> str | None:
    return datetime.combine(date_of(partition), time(tzinfo=UTC)).isoformat() if partition is not None else None


def _conf(conf: str | None) -> dict[str, Any] | None:
    try:
        value = json.loads(conf) if conf is not None else None
    except (json.JSONDecodeError, RecursionError) as error:
        raise fail(f"--conf is not JSON: {error}.", "Write an object: --conf '{\"key\": 1}'.") from error
    if value is not None and not isinstance(value, dict):
        raise fail("--conf is not a JSON object.", "Write one: --conf '{\"key\": 1}'.")
    return value


def _environment(home: Path, data: Path) -> dict[str, str]:
    """Settings for a separate Airflow: an empty metadata database in `home`, warehouse and object storage in `data`."""
    bundle = {"name": "platform", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    variables = Environment.load("dev").values["platform"].get("variables", {})
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")},
        **{f"AIRFLOW_VAR_{name.upper()}": str(value) for name, value in variables.items()},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_ENV": "dev",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([{**bundle, "kwargs": {"path": str(DAGS)}}]),
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(data / "warehouse.db")}),
        "AIRFLOW_VAR_OBJECT_STORAGE_URI": (data / "object-storage").as_uri(),
    }


def _run(wanted: dict[str, Any]) -> dict[str, Any]:
    """Run the DAG; runs in a child process that has Airflow."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.utils.db import initdb

    initdb()
    bag = BundleDagBag(dag_folder=Path(wanted["file"]), bundle_path=DAGS, bundle_name="platform")
    for error in bag.import_errors.values():
        raise ImportError(error)
    moment = datetime.fromisoformat(wanted["logical_date"]) if wanted["logical_date"] else None
    dag = bag.dags[wanted["dag_id"]]
    # `dag.test()` of Airflow 3.3.2 cannot run a DAG that has one; no scheduler watches it here anyway.
    dag.deadline = None
    run = dag.test(logical_date=moment, run_conf=wanted["conf"])
    tasks = sorted(run.get_task_instances(), key=lambda ti: (ti.start_date is None, str(ti.start_date)))
    names = {ti: ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]" for ti in tasks}
    return {"state": str(run.state), "tasks": {names[ti]: str(ti.state) for ti in tasks}}


if __name__ == "__main__":
    answer = _run(json.loads(sys.argv[1]))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
