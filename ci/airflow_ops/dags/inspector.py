"""`dags inspect` and `dags slow`: reports on the DAGs of a running Airflow, through the REST API.

Percentiles are computed here from task instances, because a query of the metadata database would need its password.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_client.client import ApiClient, DAGApi, DagRunApi, TaskInstanceApi
from airflow_client.client.exceptions import NotFoundException

from airflow_ops.cluster import airflow_api
from airflow_ops.console import fail, out, progress, show, table

LAST_RUNS = 5


@dataclass(frozen=True)
class Durations:
    """Run times of task instances that succeeded, in seconds.

    Attributes:
        task: The task, with its DAG in a report on several DAGs.
        count: How many there were.
        p50: The median.
        p95: The 95th percentile, by nearest rank.
        longest: The longest.
    """

    task: str
    count: int
    p50: float
    p95: float
    longest: float


@dataclass(frozen=True)
class DagReport:
    """A report on one DAG.

    Attributes:
        dag_id: The DAG.
        hours: How many hours the report covers.
        paused: Whether it is paused.
        states: Number of task instances by state.
        durations: Run times by task.
        failures: `task in run, try, time` of each task instance that failed.
        last_runs: `run: state, seconds` of the last runs, newest first.
        import_errors: Why its file cannot be imported.
    """

    dag_id: str
    hours: int
    paused: bool
    states: dict[str, int]
    durations: list[Durations]
    failures: list[str]
    last_runs: list[str]
    import_errors: list[str]

    def show(self) -> None:
        """Print it."""
        states = ", ".join(f"{number} {state}" for state, number in self.states.items()) or "no task instance"
        out.print(f"{self.dag_id}{' (paused)' if self.paused else ''}: {states} in {self.hours} h")
        rows = table("task", "runs", "p50 s", "p95 s", "max s")
        for item in self.durations:
            rows.add_row(item.task, str(item.count), f"{item.p50:.1f}", f"{item.p95:.1f}", f"{item.longest:.1f}")
        if self.durations:
            show(rows)
        for title, lines in (("failed", self.failures), ("run", self.last_runs), ("import error", self.import_errors)):
            for line in lines:
                out.print(f"{title}  {line}")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank).

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values, no percentile")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def inspect_dag(client: ApiClient, dag_id: str, hours: int) -> DagReport:
    """Make the report on one DAG.

    Raises:
        ProblemError: The running Airflow does not have the DAG.
    """
    try:
        dag = DAGApi(client).get_dag(dag_id)
    except NotFoundException as error:
        errors = "; ".join(f"{e.filename}: {_last_line(e)}" for e in airflow_api.import_errors(client)) or "none"
        raise fail(
            f"the running Airflow has no DAG {dag_id}; import errors: {errors}.",
            "Check the id with `airflow-ops dags list`, and that its commit was pushed.",
        ) from error
    since = datetime.now(UTC) - timedelta(hours=hours)
    instances = list(_instances(client, dag_id, start_date_gte=since))
    runs = DagRunApi(client).get_dag_runs(dag_id, limit=LAST_RUNS, order_by=["-id"]).dag_runs
    return DagReport(
        dag_id=dag_id,
        hours=hours,
        paused=bool(dag.is_paused),
        states=dict(Counter(ti.state.value if ti.state else "none" for ti in instances).most_common()),
        durations=_durations(instances, lambda ti: str(ti.task_id)),
        failures=[
            f"{ti.task_id} in {ti.dag_run_id}, try {ti.try_number}, {ti.end_date or ti.start_date:%Y-%m-%d %H:%M:%S}"
            for ti in instances
            if ti.state and ti.state.value == "failed"
        ],
        last_runs=[f"{run.dag_run_id}: {run.state.value}{_seconds(run)}" for run in runs],
        import_errors=[_last_line(e) for e in airflow_api.import_errors(client) if e.filename == dag.relative_fileloc],
    )


def slow_tasks(client: ApiClient, days: int, threshold: float) -> list[Durations]:
    """Tasks whose 95th percentile is above `threshold` seconds, slowest first."""
    since = datetime.now(UTC) - timedelta(days=days)
    found = _durations(
        _instances(client, "~", start_date_gte=since, state=["success"]), lambda ti: f"{ti.dag_id}.{ti.task_id}"
    )
    return [item for item in found if item.p95 > threshold]


def parse_seconds(client: ApiClient) -> list[tuple[str, float]]:
    """How long the last parse of each DAG file took, slowest first."""
    dags = [
        dag for dag in airflow_api.pages(DAGApi(client).get_dags, "dags", exclude_stale=True) if dag.last_parse_duration
    ]
    seconds = {str(dag.relative_fileloc): float(dag.last_parse_duration) for dag in dags}
    return sorted(seconds.items(), key=lambda item: -item[1])


def _instances(client: ApiClient, dag_id: str, **filters: Any) -> Iterator[Any]:
    with progress() as bar:
        line = bar.add_task("task instances", total=None)
        for number, instance in enumerate(
            airflow_api.pages(TaskInstanceApi(client).get_task_instances, "task_instances", dag_id, "~", **filters), 1
        ):
            bar.update(line, completed=number)
            yield instance


def _durations(instances: Any, name: Any) -> list[Durations]:
    """Run times by task, slowest 95th percentile first; only of successes, because a failure can end at any time."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for instance in instances:
        if instance.state and instance.state.value == "success" and instance.duration is not None:
            seconds[name(instance)].append(float(instance.duration))
    found = [
        Durations(task, len(values), percentile(values, 0.5), percentile(values, 0.95), max(values))
        for task, values in seconds.items()
    ]
    return sorted(found, key=lambda item: -item.p95)


def _last_line(error: Any) -> str:
    return ((error.stack_trace or "").strip().splitlines() or ["no stack trace"])[-1]


def _seconds(run: Any) -> str:
    return f", {(run.end_date - run.start_date).total_seconds():.0f} s" if run.end_date and run.start_date else ""
