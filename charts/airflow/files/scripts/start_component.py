"""Start a component of Airflow once no such component of the other colour is alive.

Two colours of different versions must not schedule, parse or run triggers at the same time. During an upgrade the new
colour's component is started while the old one still works: it imports everything, waits here, and goes on in the
moment in which the old one has ended. Outside of an upgrade there is no other colour, and this takes one query.

Usage: start_component.py scheduler|dag-processor|triggerer RELEASE
"""

import ctypes
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
import zlib
from importlib import import_module

RUN_CODE_OF_DAGS = ("dag-processor", "triggerer")
PR_SET_DUMPABLE = 4
JOB_TYPES = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
PAUSE_SECONDS = 0.5
SAY_SECONDS = 30
REGISTER_SECONDS = 120
"""For the component to write itself into the table of jobs, which takes some seconds after its imports."""


def import_component(component):
    """Import what the component imports at its start, which takes most of the time of a start."""
    name = component.replace("-", "_")
    import_module(f"airflow.cli.commands.{name}_command")
    import_module(f"airflow.jobs.{name}_job_runner")
    if component == "scheduler":
        from airflow.executors.executor_loader import ExecutorLoader

        ExecutorLoader.import_default_executor_cls()


def alive(component):
    """Hosts on which such a component is alive, by Airflow's own rule for its jobs.

    A component that was killed counts as alive until its last heartbeat is older than Airflow's threshold.
    """
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        jobs = session.scalars(select(Job).where(Job.job_type == JOB_TYPES[component], Job.state == "running")).all()
        return [job.hostname for job in jobs if job.is_alive()]


def other_colour(component, release):
    """Hosts of the other colour on which such a component is alive: a pod's host name begins with its release."""
    return [host for host in alive(component) if not host.startswith(f"{release}-")]


def wait_for_other_colour(component, release):
    """Return once no such component of the other colour is alive."""
    from sqlalchemy.exc import OperationalError

    said = -SAY_SECONDS
    while True:
        try:
            hosts = other_colour(component, release)
        except OperationalError as error:
            # All that it has imported would be lost if it ended here.
            hosts = [f"the database answers ({error.__class__.__name__}), and what was alive there"]
        if not hosts:
            return
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            print(f"{component} waits until {', '.join(hosts)} has ended", flush=True)
        time.sleep(PAUSE_SECONDS)


def enter(component, release, may_start):
    """Let the component start, and let no other one start until this one is in the table of jobs.

    Otherwise two colours that find nobody alive at the same time would both start. The lock is that of a transaction,
    which also holds through PgBouncer.
    """
    from airflow.settings import engine
    from airflow.utils import net
    from sqlalchemy import text

    key = zlib.crc32(f"airflow-platform start {component}".encode())
    while not may_start.is_set():
        wait_for_other_colour(component, release)
        with engine.connect() as connection, connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
                # Ends the transaction if this process hangs or its node fails.
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '15s'"))
            if other_colour(component, release):
                continue
            print(f"{component} of {release} starts: none of the other colour is alive", flush=True)
            may_start.set()
            end = time.monotonic() + REGISTER_SECONDS
            while time.monotonic() < end and net.get_hostname() not in alive(component):
                connection.execute(text("SELECT 1"))
                time.sleep(PAUSE_SECONDS)


def guard(component, release, may_start):
    """Run `enter`; the process ends where that fails, and its container is started again."""
    try:
        enter(component, release, may_start)
    except Exception as error:
        print(f"{component} cannot find out what is alive: {error}", file=sys.stderr, flush=True)
        if not may_start.is_set():
            os._exit(1)


def end_watchers_at_once(_):
    """Let SIGTERM end a process of KubernetesExecutor that watches pods.

    It inherits the scheduler's handler, which does nothing in a child, so a scheduler that stops waits 20 s for it and
    then kills it (KubernetesExecutor.terminate). In an upgrade nothing would be scheduled meanwhile. What it has not
    reported is found by the next scheduler, as after a crash.
    """
    if multiprocessing.current_process().name.startswith("KubernetesJobWatcher"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def hide():
    """Keep other processes of this user out of this one's environment and memory in /proc, as Airflow does for tasks.

    What is forked from here is hidden as well; a program that is started anew is not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel does not hide this process: prctl(PR_SET_DUMPABLE) failed")


def main():
    """Import, wait, then do what `airflow COMPONENT` does, in the same process."""
    component, release = sys.argv[1:]
    if component in RUN_CODE_OF_DAGS:
        hide()
    import_component(component)
    may_start = threading.Event()
    threading.Thread(target=guard, args=(component, release, may_start), daemon=True).start()
    may_start.wait()
    from airflow.__main__ import main as airflow

    multiprocessing.util.register_after_fork(multiprocessing, end_watchers_at_once)
    sys.argv = ["airflow", component]
    airflow()


if __name__ == "__main__":
    main()
