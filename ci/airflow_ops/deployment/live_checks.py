"""What a deploy checks against what runs: it must not undo an upgrade, nor do what only an upgrade may."""

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours.live import installed_version, live_colour
from airflow_ops.colours.record import refuse_open
from airflow_ops.console import fail
from airflow_ops.deployment.preflight import Schema
from airflow_ops.manifests.objects import active_colour


def check_colour(cluster: Cluster) -> None:
    """Check that no upgrade is under way, and that the values name the colour that users reach.

    Raises:
        ProblemError: An upgrade is under way, or the other colour works.
    """
    refuse_open(cluster)
    name = cluster.environment.name
    live, named = live_colour(cluster), active_colour(cluster.environment)
    if live is not None and live is not named and installed_version(cluster, live):
        raise fail(
            f"users of {name} reach {live}, but global.activeColour is {named}: a deploy would lead them away from it.",
            f"Write global.activeColour: {live} into values/{name}.yaml.",
            2,
        )


def check_version(cluster: Cluster, schema: Schema) -> None:
    """Check that the deploy does not replace one version of Airflow by another where an upgrade can do it.

    Raises:
        ProblemError: The installed version is another one, and both work on the same schema.
    """
    name, wanted = cluster.environment.name, cluster.environment.values["global"]["airflowVersion"]
    installed = installed_version(cluster, active_colour(cluster.environment))
    if installed not in (None, wanted) and schema.is_migrated:
        raise fail(
            f"{name} runs Airflow {installed}, the values say {wanted}: both would run side by side.",
            f"Use `airflow-ops upgrade {name} --to {wanted}`, which replaces it while tasks run.",
            2,
        )
