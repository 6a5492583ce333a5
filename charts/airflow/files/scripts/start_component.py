"""Start a component of Airflow once no such component of the other colour is alive.

Two colours of different versions must not schedule, parse or run triggers at the same time. During an upgrade the new
colour's component is started while the old one still works: it imports everything, waits here, and goes on in the
moment in which the old one has ended. Outside of an upgrade there is no other colour, and this takes one query.

Usage: start_component.py scheduler|dag-processor|triggerer RELEASE
"""

import multiprocessing
import multiprocessing.util
import signal
import sys
import time
from importlib import import_module

JOB_TYPES = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
PAUSE_SECONDS = 0.5
SAY_SECONDS = 30


def import_component(component):
    """Import what the component imports at its start, which takes most of the time of a start."""
    name = component.replace("-", "_")
    import_module(f"airflow.cli.commands.{name}_command")
    import_module(f"airflow.jobs.{name}_job_runner")
    if component == "scheduler":
        from airflow.executors.executor_loader import ExecutorLoader

        ExecutorLoader.import_default_executor_cls()


def other_colour(component, release):
    """Hosts of the other colour on which such a component is alive, by Airflow's own rule for its jobs.

    A pod's host name is its name, which begins with its release. A component that was killed counts as alive until its
    last heartbeat is older than Airflow's threshold.
    """
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        jobs = session.scalars(select(Job).where(Job.job_type == JOB_TYPES[component], Job.state == "running")).all()
        return [job.hostname for job in jobs if job.is_alive() and not job.hostname.startswith(f"{release}-")]


def wait_for_other_colour(component, release):
    """Return once no such component of the other colour is alive."""
    said = 0.0
    while hosts := other_colour(component, release):
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            print(f"{component} waits until {', '.join(hosts)} has ended", flush=True)
        time.sleep(PAUSE_SECONDS)
    print(f"{component} of {release} starts: none of the other colour is alive", flush=True)


def end_watchers_at_once(_):
    """Let SIGTERM end a process of KubernetesExecutor that watches pods.

    It inherits the scheduler's handler, which does nothing in a child, so a scheduler that stops waits 20 s for it and
    then kills it (KubernetesExecutor.terminate). In an upgrade nothing would be scheduled meanwhile. What it has not
    reported is found by the next scheduler, as after a crash.
    """
    if multiprocessing.current_process().name.startswith("KubernetesJobWatcher"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main():
    """Import, wait, then do what `airflow COMPONENT` does, in the same process."""
    component, release = sys.argv[1:]
    import_component(component)
    wait_for_other_colour(component, release)
    from airflow import settings
    from airflow.__main__ import main as airflow

    # Processes that the component forks must not share this one's connections.
    settings.engine.dispose()
    multiprocessing.util.register_after_fork(multiprocessing, end_watchers_at_once)
    sys.argv = ["airflow", component]
    airflow()


if __name__ == "__main__":
    main()
