"""Stop Airflow for a migration that no older Airflow can work beside, once its tasks have ended."""

from typing import Any

from airflow_ops.cluster import components, jobs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.console import err, fail, out, styled
from airflow_ops.manifests.objects import Colour
from airflow_ops.recovery import backup as backups
from airflow_ops.upgrades import migration
from airflow_ops.waiting import wait_until


def begin(cluster: Cluster, seconds: float) -> None:
    """Start nothing new, wait for the tasks that run, stop everything of Airflow, and back up the database.

    Users get no answer from then on. If it fails or is ended by a signal, Airflow is started again. A command that was
    killed can do it again.

    Args:
        cluster: The environment.
        seconds: How long to wait for running tasks.

    Raises:
        ProblemError: Tasks still run, a component does not stop, or the backup fails; everything works as before.
    """
    try:
        components.stop(cluster, live.SINGLE)
        _wait_for_tasks(cluster, seconds)
        components.stop(cluster)
        out.print(styled("ok", "green"), "everything of Airflow is stopped")
        made = jobs.run_for_result(cluster, backups.backup_job(backups.cron_job(cluster)), "backing up")
        out.print(styled("ok", "green"), f"backup {made['name']}")
    except BaseException:
        err.print("starting Airflow again")
        components.start_again(cluster)
        raise


def _wait_for_tasks(cluster: Cluster, seconds: float) -> None:
    with err.status("waiting for tasks to end"):
        wait_until(lambda: not _tasks(cluster), seconds)
    if left := _tasks(cluster):
        raise fail(
            f"{len(left)} tasks still run after {seconds:.0f} s, such as {left[0].metadata.name}; Airflow works on.",
            "Wait for them, or give them longer with --wait-for-tasks.",
        )


def _tasks(cluster: Cluster) -> list[Any]:
    """Worker pods of both colours: those of a colour that was left behind run on."""
    return [pod for colour in Colour for pod in live.worker_pods(cluster, colour)]


def end(cluster: Cluster, colour: Colour) -> None:
    """Start what Helm has left stopped, and take back what older versions needed.

    Args:
        cluster: The environment.
        colour: The colour that was installed.

    Raises:
        ProblemError: A component does not become ready.
    """
    # Helm has set replicas as the values say, except where an autoscaler sets them: from 0 it would never start.
    stopped = components.stopped_deployments(cluster)
    name = live.deployment_name(colour, live.API_SERVER)
    if name in stopped and live.autoscaled(cluster, colour) is not None:
        components.start(cluster, {name: stopped.pop(name)})
    components.forget(cluster, stopped)
    migration.remove_bridges(cluster, cluster.environment.values["global"]["airflowVersion"])
