"""The DAGs of the bundle and the resources of their tasks, as plain data that processes can exchange."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POD_TEMPLATES = "/opt/airflow/pod_templates"
"""The scheduler's folder of pod templates, one file per size; the DAG library and charts/airflow use it too."""


@dataclass(frozen=True)
class Task:
    """One task with the resources that it asks for.

    Attributes:
        dag_id: Its DAG.
        task_id: Its id.
        owner: The team that is responsible for it.
        executor: The executor that it names; empty for the default one.
        pool: Its pool.
        pool_slots: The slots that one of its instances takes in the pool.
        pod_template_file: The worker pod template that it names; empty for the default one.
        requests: Resource name to quantity, from the base container of its pod_override; empty if it has none.
        limits: Resource name to limit, likewise.
    """

    dag_id: str
    task_id: str
    owner: str
    executor: str
    pool: str
    pool_slots: int
    pod_template_file: str
    requests: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The task's name in an error."""
        return f"{self.dag_id}.{self.task_id}"

    @property
    def size(self) -> str:
        """The size that it names; empty for the default one."""
        return Path(self.pod_template_file).stem if self.pod_template_file else ""


@dataclass(frozen=True)
class Dag:
    """One DAG of the bundle.

    Attributes:
        dag_id: Its id.
        file: Its file, relative to the bundle.
        schedule: As text: a cron expression, the class of a timetable, the assets; `-` where it has none.
        tags: Its tags.
        tasks: Its tasks.
    """

    dag_id: str
    file: str
    schedule: str
    tags: tuple[str, ...]
    tasks: tuple[Task, ...]


def dag_facts(dag: Any, file: str) -> dict[str, Any]:
    """A parsed `airflow.sdk.DAG` as plain values, from which `dag_from` builds a `Dag` in another process."""
    return {
        "dag_id": dag.dag_id,
        "file": file,
        "schedule": _schedule(dag.schedule),
        "tags": sorted(dag.tags),
        "tasks": [_task_facts(dag.dag_id, task) for task in dag.tasks],
    }


def dag_from(facts: dict[str, Any]) -> Dag:
    """Build a `Dag` from the plain values of `dag_facts`."""
    return Dag(**{**facts, "tags": tuple(facts["tags"]), "tasks": tuple(Task(**task) for task in facts["tasks"])})


def _task_facts(dag_id: str, task: Any) -> dict[str, Any]:
    config = task.executor_config or {}
    return {
        "dag_id": dag_id,
        "task_id": task.task_id,
        "owner": task.owner,
        "executor": task.executor or "",
        "pool": task.pool,
        "pool_slots": task.pool_slots,
        "pod_template_file": config.get("pod_template_file") or "",
        **_override(config.get("pod_override")),
    }


def _schedule(schedule: Any) -> str:
    if schedule is None:
        return "-"
    if isinstance(schedule, str):
        return schedule
    if expression := getattr(schedule, "expression", None):
        return str(expression)
    if isinstance(schedule, list | tuple):
        return ", ".join(getattr(item, "name", str(item)) for item in schedule)
    return getattr(schedule, "name", None) or type(schedule).__name__


def _override(pod: Any) -> dict[str, dict[str, str]]:
    """Requests and limits of a `pod_override`: containers are merged by index, so the first is the base container."""
    containers = getattr(getattr(pod, "spec", None), "containers", None) or [None]
    resources = containers[0].resources if containers[0] is not None else None
    if resources is None:
        return {}
    return {"requests": dict(resources.requests or {}), "limits": dict(resources.limits or {})}
