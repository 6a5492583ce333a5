"""What a deploy checks against what runs: it must not undo an upgrade, nor do what only an upgrade may."""

from airflow_ops.cluster.connection import Cluster, existing
from airflow_ops.colours.live import USERS, installed_version, live_colour
from airflow_ops.colours.record import refuse_open
from airflow_ops.console import fail
from airflow_ops.deployment.helm import was_installed
from airflow_ops.deployment.preflight import Schema
from airflow_ops.manifests.objects import active_colour, releases

TRACKED = "argocd.argoproj.io/tracking-id"
"""Annotation of every object that Argo CD has made."""


def check_owner(cluster: Cluster) -> None:
    """Check that the platform is Helm's to install.

    Raises:
        ProblemError: Argo CD has made it.
    """
    name = cluster.environment.name
    service = existing(cluster.core.read_namespaced_service, USERS, cluster.namespace)
    if service is None or TRACKED not in (service.metadata.annotations or {}):
        return
    if not was_installed(cluster, releases(cluster.environment)[0]):
        raise fail(
            f"Argo CD brings {name}, and Helm does not take over objects that it has not made.",
            "Commit the change and push it; docs/gitops.md says how an environment leaves Argo CD.",
            2,
        )


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
            f"users of {name} reach {live}, but the active colour is {named}: a deploy would lead them away from it.",
            f"Make {live} the {cluster.environment.active_colour_key}.",
            2,
        )


def check_version(cluster: Cluster, schema: Schema) -> bool:
    """Check whether a deploy may bring the version of the values: an upgrade brings another one.

    Returns:
        Whether it may; if not, it can be done in a maintenance window.

    Raises:
        ProblemError: The image is older than the schema, and nobody has seen it work there.
    """
    wanted = cluster.environment.values["global"]["airflowVersion"]
    installed = installed_version(cluster, active_colour(cluster.environment))
    if schema.is_ahead:
        if installed in (None, wanted) and schema.was_tried_with(wanted):
            return True
        name = cluster.environment.name
        raise fail(
            f"the metadata database has a newer schema than Airflow {wanted}: {schema}.",
            f"Write the version that has migrated it into values/, or restore a backup of {wanted}: "
            f"airflow-ops restore {name} BACKUP.",
            2,
        )
    return installed is None or (installed == wanted and schema.is_migrated)


def refuse_version(cluster: Cluster, schema: Schema) -> Exception:
    """The error for a deploy that would put two versions of Airflow side by side."""
    name, wanted = cluster.environment.name, cluster.environment.values["global"]["airflowVersion"]
    installed = installed_version(cluster, active_colour(cluster.environment))
    why = f"the values say {wanted}" if installed != wanted else f"its image needs another schema: {schema}"
    return fail(
        f"{name} runs Airflow {installed}, {why}: both would run side by side.",
        f"Use `airflow-ops upgrade {name} --to {wanted}`, which replaces it while tasks run.",
        2,
    )
