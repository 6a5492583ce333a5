"""`dags run-all`: run every DAG on the Airflow of this machine and compare its end with the expected one."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from airflow_client.client import ApiClient, DAGApi, DAGPatchBody, DagRunApi, TaskInstanceApi
from airflow_client.client.exceptions import ApiException, NotFoundException
from rich.progress import Progress

from airflow_ops.cluster import airflow_api
from airflow_ops.console import err, fail, progress
from airflow_ops.dags.login import local_client
from airflow_ops.dags.trials import ENDS, Trial, date_of

POLL_SECONDS = 1.0
RUN_SECONDS = 900.0
"""A run that has not ended by then hangs: the longest one takes two minutes on two busy cores."""


@dataclass(frozen=True)
class Outcome:
    """The result of a trial.

    Attributes:
        dag_id: The DAG.
        trial: Name of the trial.
        end: State of the run.
        wanted: The expected state.
        seconds: From its trigger to its end.
        faults: What differs from the expected end; empty if nothing does.
    """

    dag_id: str
    trial: str
    end: str
    wanted: str
    seconds: float
    faults: list[str]


@dataclass
class Running:
    """A trial that is running."""

    trial: Trial
    run_id: str
    started: float = field(default_factory=time.monotonic)


def run_trials(trials: Sequence[Trial], at_once: int) -> list[Outcome]:
    """Run trials, some at once, each after those that it needs; DAGs that were paused are paused again.

    Raises:
        ProblemError: Airflow does not run here, or does not know a DAG.
    """
    client = local_client()
    with _unpaused(client, sorted({trial.dag_id for trial in trials})), progress() as bar:
        return _run(client, list(trials), at_once, bar)


def _run(client: ApiClient, waiting: list[Trial], at_once: int, bar: Progress) -> list[Outcome]:
    line = bar.add_task("trials", total=len(waiting))
    running: list[Running] = []
    outcomes: list[Outcome] = []
    while waiting or running:
        for trial in _ready(waiting, running)[: at_once - len(running)]:
            waiting.remove(trial)
            try:
                running.append(Running(trial, _start(client, trial)))
            except ApiException as error:
                outcomes.append(Outcome(trial.dag_id, trial.name, "not started", trial.end, 0.0, [str(error.body)]))
        for item in list(running):
            if outcome := _outcome(client, item):
                running.remove(item)
                outcomes.append(outcome)
                verdict = "; ".join(outcome.faults) or "as designed"
                err.print(f"{outcome.dag_id} ({outcome.trial}): {outcome.end}, {verdict}")
        bar.update(line, completed=len(outcomes), description=", ".join(i.trial.dag_id for i in running) or "trials")
        time.sleep(POLL_SECONDS)
    return outcomes


def _start(client: ApiClient, trial: Trial) -> str:
    """Trigger a trial: with its partition where the DAG's timetable has partitions, else with a moment of that day."""
    if trial.partition is None or DAGApi(client).get_dag_details(trial.dag_id).timetable_partitioned:
        return airflow_api.trigger(client, trial.dag_id, trial.name, trial.partition, trial.conf)
    # The time of day is the present one, because a DAG can have only one run for a logical date.
    moment = datetime.combine(date_of(trial.partition), datetime.now(UTC).timetz())
    return airflow_api.trigger(client, trial.dag_id, trial.name, conf=trial.conf, logical_date=moment)


def _ready(waiting: list[Trial], running: list[Running]) -> list[Trial]:
    """Trials whose predecessors have ended; one trial of a DAG at a time, since its runs may share a partition."""
    open_ids = {trial.dag_id for trial in waiting} | {item.trial.dag_id for item in running}
    busy = {item.trial.dag_id for item in running}
    found: list[Trial] = []
    for trial in waiting:
        if not open_ids & set(trial.after) and trial.dag_id not in busy:
            busy.add(trial.dag_id)
            found.append(trial)
    return found


def _outcome(client: ApiClient, item: Running) -> Outcome | None:
    trial, seconds = item.trial, time.monotonic() - item.started
    end = str(DagRunApi(client).get_dag_run(trial.dag_id, item.run_id).state.value)
    if end not in ENDS and seconds < RUN_SECONDS:
        return None
    faults = [] if end == trial.end else [f"the run is {end}"]
    instances = TaskInstanceApi(client).get_task_instances(trial.dag_id, item.run_id, limit=100).task_instances
    states = {ti.task_id: ti.state.value if ti.state else "none" for ti in instances}
    faults += [
        f"{task} is {states.get(task, 'not there')}, not {state}"
        for task, state in trial.tasks.items()
        if states.get(task) != state
    ]
    if end != trial.end:
        faults += [f"{task} is {state}" for task, state in states.items() if state not in ("success", "skipped")]
    return Outcome(trial.dag_id, trial.name, end, trial.end, round(seconds, 1), faults)


@contextmanager
def _unpaused(client: ApiClient, dag_ids: Sequence[str]) -> Iterator[None]:
    """Unpause DAGs for the duration of a `with` block."""
    paused = []
    for dag_id in dag_ids:
        try:
            if DAGApi(client).get_dag(dag_id).is_paused:
                paused.append(dag_id)
        except NotFoundException as error:
            raise fail(
                f"the running Airflow does not know {dag_id}.",
                "Wait until it is parsed, or check its file: `airflow-ops dags lint`.",
            ) from error
    try:
        for dag_id in paused:
            DAGApi(client).patch_dag(dag_id, DAGPatchBody(is_paused=False))
        yield
    finally:
        for dag_id in paused:
            DAGApi(client).patch_dag(dag_id, DAGPatchBody(is_paused=True))
