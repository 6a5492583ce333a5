"""Load a month of flights through the running Airflow, and check that the platform's DAGs work."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_client.client import (
    ApiClient,
    BackfillApi,
    BackfillPostBody,
    DAGApi,
    DAGPatchBody,
    DagRunApi,
    ReprocessBehavior,
    TaskInstanceApi,
)
from airflow_client.client.exceptions import ApiException
from rich.progress import Progress, TaskID

from airflow_ops.cluster import airflow_api
from airflow_ops.console import fail

INGEST, REPORT, HEALTH, CANARY = (
    "flights_ingest_daily",
    "flights_report_monthly",
    "platform_check_health",
    "platform_run_canary",
)
MONTH = "2013-01"
DAYS = 31
PARALLEL_DAYS = 4
"""Days loaded at once: more would only wait for two cores and for SQLite, which allows one writer."""
POLL_SECONDS = 2.0
"""Each poll costs the API server about a tenth of a second of CPU."""
UNFINISHED = {"queued", "running"}
PROGRESS_SECONDS = 300.0
"""If no run of the pipeline ends for this long, something hangs: the longest step takes well under a minute."""


@dataclass
class PipelineRuns:
    """The DAG runs that `run_pipeline` waits for.

    Attributes:
        client: Client of the running Airflow.
        manual: Run ids by DAG, of the runs that were triggered here.
    """

    client: ApiClient
    manual: dict[str, str] = field(default_factory=dict)

    def unpause(self) -> None:
        """Let the scheduler start runs of the platform's DAGs."""
        for dag_id in (INGEST, REPORT, HEALTH, CANARY):
            DAGApi(self.client).patch_dag(dag_id, DAGPatchBody(is_paused=False))

    def states(self, dag_id: str) -> dict[str, str]:
        """States of the runs to wait for, by partition or run id."""
        runs = DagRunApi(self.client).get_dag_runs(dag_id, limit=100, order_by=["-id"]).dag_runs
        if dag_id in self.manual:
            return {run.dag_run_id: run.state.value for run in runs if run.dag_run_id == self.manual[dag_id]}
        keyed = [(run.partition_key or "", run.state.value) for run in reversed(runs)]
        return {partition: state for partition, state in keyed if partition.startswith(MONTH)}

    def backfill(self) -> bool:
        """Request the days that are missing or failed; a backfill that is still running serves as well.

        Returns:
            Whether any day was missing.
        """
        done = [state for state in self.states(INGEST).values() if state == "success"]
        if len(done) == DAYS:
            return False
        body = BackfillPostBody(
            dag_id=INGEST,
            from_date=datetime(2013, 1, 1, tzinfo=UTC),
            to_date=datetime(2013, 1, DAYS, tzinfo=UTC),
            max_active_runs=PARALLEL_DAYS,
            reprocess_behavior=ReprocessBehavior.FAILED,
        )
        try:
            BackfillApi(self.client).create_backfill(body)
        except ApiException as error:
            if error.status != 409:
                raise
        return True

    def trigger(self, dag_id: str) -> None:
        """Start one run of a DAG now."""
        self.manual[dag_id] = airflow_api.trigger(self.client, dag_id)

    def failed_tasks(self, dag_id: str) -> Iterator[tuple[str, str]]:
        """Run id and task id of every task that failed in a DAG."""
        instances = TaskInstanceApi(self.client).get_task_instances(dag_id, "~", state=["failed"], limit=20)
        for instance in instances.task_instances:
            yield instance.dag_run_id, instance.task_id


@dataclass(frozen=True)
class Expectation:
    """A DAG and how many of its runs have to succeed."""

    dag_id: str
    runs: int


def run_pipeline(client: ApiClient, bar: Progress) -> bool:
    """Load January 2013, wait for its report, and run the canary and the health check once.

    Args:
        client: Client of the running Airflow.
        bar: Progress to show it in.

    Returns:
        Whether anything had to be loaded.

    Raises:
        ProblemError: A run failed, or no run ends any more; the failed tasks are named.
    """
    runs = PipelineRuns(client)
    runs.unpause()
    loading = runs.backfill()
    report_there = "success" in runs.states(REPORT).values()
    if not loading and report_there:
        return False
    runs.trigger(CANARY)
    runs.trigger(HEALTH)
    wanted = [Expectation(INGEST, DAYS), Expectation(REPORT, 1), Expectation(CANARY, 1), Expectation(HEALTH, 1)]
    _wait(runs, wanted, bar)
    return True


def _wait(runs: PipelineRuns, wanted: list[Expectation], bar: Progress) -> None:
    lines = {item.dag_id: bar.add_task(item.dag_id, total=item.runs) for item in wanted}
    states: dict[str, Counter[str]] = {item.dag_id: Counter() for item in wanted}
    seen: Any = None
    last_change = time.monotonic()
    while True:
        states = {**states, **{i.dag_id: Counter(runs.states(i.dag_id).values()) for i in _open(wanted, states)}}
        _show(bar, lines, states)
        if not _open(wanted, states):
            return
        stuck = time.monotonic() - last_change > PROGRESS_SECONDS
        ended_badly = [dag_id for dag_id, count in states.items() if count["failed"] and not UNFINISHED & set(count)]
        if ended_badly or stuck:
            raise _unfinished(runs, ended_badly or [item.dag_id for item in _open(wanted, states)])
        if states != seen:
            seen, last_change = states, time.monotonic()
        time.sleep(POLL_SECONDS)


def _open(wanted: list[Expectation], states: dict[str, Counter[str]]) -> list[Expectation]:
    return [item for item in wanted if states[item.dag_id]["success"] < item.runs]


def _show(bar: Progress, lines: dict[str, TaskID], states: dict[str, Counter[str]]) -> None:
    for dag_id, line in lines.items():
        bar.update(line, completed=states[dag_id]["success"])


def _unfinished(runs: PipelineRuns, dag_ids: list[str]) -> Exception:
    tasks = [f"{dag_id}.{task} in run {run}" for dag_id in dag_ids for run, task in runs.failed_tasks(dag_id)]
    cause = "; ".join(tasks) if tasks else f"no run of {', '.join(dag_ids)} ended for {PROGRESS_SECONDS:.0f} s"
    return fail(
        f"the pipeline failed: {cause}.",
        "Airflow is left running: see the task's log on the web page, correct the cause, and run `make up` again.",
    )
