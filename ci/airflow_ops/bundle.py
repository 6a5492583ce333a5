"""What the tasks of the DAG bundle ask for, read by loading the bundle with Airflow in a process of its own.

Loading tells the truth where reading the source would guess: sizes from default_args, in loops, or per environment.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_ops.console import fail
from airflow_ops.repository import DAGS

TIMEOUT_SECONDS = 180

POD_TEMPLATES = "/opt/airflow/pod_templates"
"""Where the scheduler has the templates, one file a size; dags/shared/resources.py and charts/airflow agree on it."""


@dataclass(frozen=True)
class Task:
    """What one task asks for.

    Attributes:
        dag_id: Its DAG.
        task_id: Its id.
        executor: The executor that it names; empty for the default one.
        pool: Its pool.
        pool_slots: The slots that one of its instances takes there.
        pod_template_file: The worker pod template that it names; empty for the default one.
        requests: Resource name to quantity, from the base container of its pod_override; empty if it has none.
        limits: The same for limits.
    """

    dag_id: str
    task_id: str
    executor: str
    pool: str
    pool_slots: int
    pod_template_file: str
    requests: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The task in an error."""
        return f"{self.dag_id}.{self.task_id}"

    @property
    def size(self) -> str:
        """The size that it names; empty for the default one."""
        return Path(self.pod_template_file).stem if self.pod_template_file else ""


def load_tasks(environment: str, executors: str, folder: Path = DAGS) -> list[Task]:
    """The tasks of all DAGs as they are in an environment.

    Args:
        environment: What AIRFLOW_ENV says while the DAGs are parsed.
        executors: [core] executor of the environment: a task that names another one cannot be loaded.
        folder: The DAG bundle.

    Raises:
        ProblemError: Airflow is not installed beside this command, or a DAG cannot be imported.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as home:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW_")}
        answer = subprocess.run(
            [sys.executable, "-m", "airflow_ops.bundle", str(folder)],
            env=clean
            | {
                "AIRFLOW_HOME": home,
                "AIRFLOW_ENV": environment,
                "AIRFLOW__CORE__EXECUTOR": executors,
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
                "PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parents[1])]),
                "PYTHONWARNINGS": "ignore",
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1:] or ["no output"]
        raise fail(
            f"the DAGs in {folder} cannot be loaded: {last[0]}",
            "Run `airflow-ops` from the locked environment (.venv).",
        )
    facts: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    if facts["errors"]:
        file, error = next(iter(facts["errors"].items()))
        raise fail(
            f"{file} cannot be imported: {error.strip().splitlines()[-1]}", "Mend the DAG; `make test` shows all."
        )
    return [Task(**task) for task in facts["tasks"]]


def _facts(folder: str) -> dict[str, Any]:
    """What `load_tasks` reads; runs in the process that has Airflow."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(folder)
    tasks = [
        {
            "dag_id": dag.dag_id,
            "task_id": task.task_id,
            "executor": task.executor or "",
            "pool": task.pool,
            "pool_slots": task.pool_slots,
            "pod_template_file": (task.executor_config or {}).get("pod_template_file") or "",
            **_override((task.executor_config or {}).get("pod_override")),
        }
        for dag in bag.dags.values()
        for task in dag.tasks
    ]
    return {"errors": {str(file): error for file, error in bag.import_errors.items()}, "tasks": tasks}


def _override(pod: Any) -> dict[str, dict[str, str]]:
    """Requests and limits of a `pod_override`: containers are merged by index, so the first is the base container."""
    containers = (pod.spec.containers if pod is not None and pod.spec else None) or [None]
    resources = containers[0].resources if containers[0] is not None else None
    if resources is None:
        return {}
    return {"requests": dict(resources.requests or {}), "limits": dict(resources.limits or {})}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(_facts(sys.argv[1])) + "\n")
