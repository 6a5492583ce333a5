"""Stop Airflow for a migration that no older Airflow can work beside, once its tasks have ended."""

from airflow_ops.cluster import components, jobs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.console import err, fail, out, styled
from airflow_ops.recovery import backup as backups
from airflow_ops.waiting import wait_until


def begin(cluster: Cluster, seconds: float) -> None:
    """Start nothing new, wait for the tasks that run, stop everything of Airflow, and back up the database.

    Users get no answer from now on. A command that was cut off can do it again.

    Args:
        cluster: The environment.
        seconds: How long to wait for running tasks.

    Raises:
        ProblemError: Tasks still run; everything works as before. Or the backup fails; Airflow is started again.
    """
    colour = live.live_colour(cluster)
    if colour is None:
        return
    components.stop(cluster, live.SINGLE)
    with err.status("waiting for tasks to end"):
        ended = wait_until(lambda: not live.worker_pods(cluster, colour), seconds)
    if not ended:
        left = live.worker_pods(cluster, colour)
        components.start(cluster, components.stopped_deployments(cluster))
        raise fail(
            f"{len(left)} tasks still run after {seconds:.0f} s, such as {left[0].metadata.name}; Airflow works on.",
            "Wait for them, or give them longer with --wait-for-tasks.",
        )
    components.stop(cluster)
    out.print(styled("ok", "green"), "everything of Airflow is stopped")
    try:
        made = jobs.run_for_result(cluster, backups.backup_job(backups.cron_job(cluster)), "backing up")
    except BaseException:
        components.start(cluster, components.stopped_deployments(cluster))
        raise
    out.print(styled("ok", "green"), f"backup {made['name']}")


def end(cluster: Cluster) -> None:
    """Start what `begin` stopped.

    Raises:
        ProblemError: A component does not become ready.
    """
    components.start(cluster, components.stopped_deployments(cluster))
