"""Stop the queueing of tasks for some seconds, to stop a scheduler while every queued task has its pod."""

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours.live import API_SERVER, ready_api_server
from airflow_ops.console import fail
from airflow_ops.manifests.objects import Colour
from airflow_ops.waiting import wait_until

CLOCK_SECONDS = 2
"""How much the clocks of a scheduler and of the Kubernetes API may differ; the latter knows whole seconds only."""
HOLD_SECONDS = 60
"""For the hold to begin: a start of Airflow on a busy node, and the end of a scheduler's present turn."""
LOOK = """
import json, sys, threading, time
from airflow import settings
from airflow.jobs.job import Job
from airflow.models.taskinstance import TaskInstance as TI
from airflow.utils.db import DBLocks
from sqlalchemy import select, text

# The command is gone when its end of the pipe is. The time limit is for a pipe that hangs.
end = time.monotonic() + float(sys.argv[2])
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
hold = sys.argv[1] == "hold"
with settings.engine.connect() as connection, settings.Session() as session:
    if hold:
        # If this pod's node fails, the database ends the transaction, and with it the hold.
        connection.execute(text("SET idle_in_transaction_session_timeout = '15s'"))
        # What a scheduler takes before it queues tasks; one that does not get it does everything else.
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": DBLocks.SCHEDULER_CRITICAL_SECTION.value})
    while not ended.wait(0.3) and time.monotonic() < end:
        if hold:
            connection.execute(text("SELECT 1"))
        columns = (TI.dag_id, TI.run_id, TI.task_id, TI.map_index, TI.try_number, TI.queued_dttm)
        queued = session.execute(select(*columns).where(TI.state == "queued"))
        jobs = session.scalars(select(Job).where(Job.state == "running")).all()
        seen = {
            "queued": [[*row[:5], row[5].timestamp() if row[5] else 0] for row in queued],
            "alive": [[job.job_type, job.hostname] for job in jobs if job.is_alive()],
        }
        session.rollback()
        session.expire_all()
        print("seen: " + json.dumps(seen), flush=True)
"""
"""Runs in a pod of the API server, which has Airflow and the database."""
LOOK_SECONDS = {True: 300, False: 7200}
"""After this time it ends by itself, with and without a hold."""


class QueuedTask(NamedTuple):
    """A queued task instance: which one, which try, and since when in seconds since 1970."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    since: float


@dataclass
class View:
    """What the metadata database says, every 0.3 s.

    Attributes:
        queued: Queued task instances.
        alive: Jobs that are alive by Airflow's rule: type and host.
    """

    process: "subprocess.Popen[str]"
    errors: IO[str]
    queued: list[QueuedTask] = field(default_factory=list)
    alive: list[tuple[str, str]] = field(default_factory=list)
    _news: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        """Read what the program prints until it ends."""
        for line in self.process.stdout or ():
            if line.startswith("seen: "):
                self.read(line.removeprefix("seen: "))
                self._news.set()

    def read(self, text: str) -> None:
        """Take over one look at the database, as the program prints it."""
        seen = json.loads(text)
        self.queued = [QueuedTask(*row) for row in seen["queued"]]
        self.alive = [tuple(row) for row in seen["alive"]]

    def refresh(self, seconds: float = 10) -> None:
        """Wait for the next look at the database.

        Raises:
            ProblemError: None comes: the program in the pod has ended, or the database does not answer.
        """
        self._news.clear()
        if not self._news.wait(seconds):
            self.errors.seek(0)
            last = (self.errors.read().strip().splitlines() or ["no answer"])[-1]
            raise fail(f"the metadata database cannot be watched: {last}.", "Run the same command again: it continues.")

    def alive_of(self, job_type: str, colour: Colour) -> list[str]:
        """Hosts on which a job of a type is alive in a colour."""
        return [host for kind, host in self.alive if kind == job_type and host.startswith(f"airflow-{colour}-")]


@contextmanager
def watch(cluster: Cluster, *, hold: bool) -> Iterator[View]:
    """Watch queued tasks and jobs that are alive for the duration of a `with` block.

    Args:
        cluster: The environment.
        hold: Whether no scheduler may queue a task meanwhile. Running tasks, deferred tasks and the API are not
            affected. It ends with the block, and also if this process is killed.

    Raises:
        ProblemError: No API server runs, or the hold does not begin.
    """
    pod = ready_api_server(cluster)
    command = [programs.find("kubectl"), "--context", cluster.context, "--namespace", cluster.namespace]
    command += ["exec", "--stdin", pod, "--container", API_SERVER, "--"]
    command += ["python", "-c", LOOK, "hold" if hold else "look", str(LOOK_SECONDS[hold])]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True) as process,
    ):
        view = View(process, errors)
        reader = threading.Thread(target=view.follow, daemon=True)
        reader.start()
        try:
            view.refresh(HOLD_SECONDS)
            yield view
        finally:
            _end(process)
            reader.join()


def _end(process: "subprocess.Popen[str]") -> None:
    """Close the pipe to the program, which then gives its lock back and ends."""
    with contextlib.suppress(BrokenPipeError):
        if process.stdin:
            process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def queued_without_pod(cluster: Cluster, view: View) -> list[QueuedTask]:
    """Queued task instances for which no worker pod exists yet. A pod from before a deferral has the same try."""
    found = cluster.core.list_namespaced_pod(cluster.namespace, label_selector="kubernetes_executor=True").items
    made: dict[tuple[Any, ...], float] = {}
    for pod in found:
        if pod.status.phase in ("Pending", "Running") and not pod.metadata.deletion_timestamp:
            notes = pod.metadata.annotations or {}
            key = tuple(notes.get(name, "-1") for name in ("dag_id", "run_id", "task_id", "map_index", "try_number"))
            made[key] = max(made.get(key, 0), pod.metadata.creation_timestamp.timestamp())
    return [task for task in view.queued if made.get(tuple(map(str, task[:-1])), 0) < task.since - CLOCK_SECONDS]


def drain(cluster: Cluster, view: View, seconds: float) -> list[QueuedTask]:
    """Wait, during a hold, until every queued task has its pod.

    Args:
        cluster: The environment.
        view: What `watch` gives.
        seconds: How long to wait: without room for pods a queue is never empty.

    Returns:
        What is still queued without a pod.
    """
    left: list[QueuedTask] = []

    def is_drained() -> bool:
        view.refresh()
        left[:] = queued_without_pod(cluster, view)
        return not left

    wait_until(is_drained, seconds, 0)
    return left
