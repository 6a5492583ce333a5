"""`reconcile`: bring Airflow to what a commit says, after Argo CD or Helm has brought the platform there."""

from typing import Annotated

import typer

from airflow_ops.cluster import lease
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.colours import live
from airflow_ops.colours.record import Phase, Record, RecordStore
from airflow_ops.console import ProblemError, fail, out, styled
from airflow_ops.deployment import helm, smoke
from airflow_ops.deployment import preflight as deployment_preflight
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests import objects
from airflow_ops.manifests.objects import Colour, Release, releases
from airflow_ops.options import EnvironmentName
from airflow_ops.upgrades import command, preflight
from airflow_ops.upgrades.report import describe


def reconcile(
    name: EnvironmentName,
    active_colour: Annotated[
        Colour | None,
        typer.Option(help="The colour to promote; by default what values/ and k8s/environments.yaml say."),
    ] = None,
    overlays: Annotated[
        str | None,
        typer.Option(help="The overlays of ENV with commas; by default those of k8s/environments.yaml in this commit."),
    ] = None,
) -> None:
    """Bring the Airflow of an environment to what this commit says; the Job after a sync of Argo CD runs it.

    Where no Airflow is installed it installs one. Where the commit says something
    else than what works, it upgrades to that. It promotes an upgrade once its
    colour is the active one, or at once if
    platform.operations.promotion is automatic; and it rolls one back that soaks
    where the commit says again what worked before. It leaves the platform alone.

    Example: airflow-ops reconcile dev
    """
    own = None if overlays is None else list(filter(None, overlays.split(",")))
    cluster = connect(Environment.load(name, active_colour=active_colour, own=own))
    manifests = deployment_preflight.check_files(cluster)
    with lease.hold(cluster, "reconcile") as holding:
        store = RecordStore(cluster)
        record = store.read()
        _lead_users(cluster, record)
        working = live.live_colour(cluster) or objects.active_colour(cluster.environment)
        _, release = releases(cluster.environment, working)
        # A first install may have failed half-way.
        if not helm.was_installed(cluster, release):
            deployment_preflight.check_cluster(cluster, manifests)
            _install(cluster, release)
            return
        if record is not None and _was_left_behind(cluster, record):
            command.go_back(cluster, store, record)
        record = _upgrade(cluster, store, record, holding)
        if record is not None:
            _end(cluster, store, record)


def _lead_users(cluster: Cluster, record: Record | None) -> None:
    """Lead users and tasks to the colour that works: a Service that was deleted comes back as the values say.

    Raises:
        ProblemError: That colour has no ready API server.
    """
    found = live.live_colour(cluster)
    serving = [colour for colour in Colour if _has_api_servers(cluster, colour)]
    if record is not None and record.phase is Phase.SOAKING:
        serving = [record.target.colour]
    if found is not None and found not in serving and len(serving) == 1:
        out.print(f"leads users to {serving[0]} again, which works")
        live.point(cluster, [live.USERS, *map(live.execution_service, Colour)], serving[0])


def _has_api_servers(cluster: Cluster, colour: Colour) -> bool:
    found = live.deployments(cluster, colour).get(live.API_SERVER)
    return bool(found and found.spec.replicas)


def _install(cluster: Cluster, release: Release) -> None:
    """Install a colour, or bring it to this commit where it is."""
    helm.install(cluster, release, helm.INSTALL_SECONDS)
    out.print(styled("ok", "green"), f"{release.name} is ready")
    smoke.check(cluster)


def _was_left_behind(cluster: Cluster, record: Record) -> bool:
    """Whether an upgrade was cut off that nobody continues: on its way back, or to something else than this commit."""
    if record.phase is Phase.UPGRADING:
        return not _is_of_this_commit(cluster, record)
    return record.phase is Phase.ROLLING_BACK


def _is_of_this_commit(cluster: Cluster, record: Record) -> bool:
    """Whether an upgrade is one to the Airflow of this commit; the platform may be another, and is there already."""
    return live.digest(preflight.wanted(cluster, record.target.colour)) == record.colour_digest


def _upgrade(cluster: Cluster, store: RecordStore, record: Record | None, holding: lease.Holding) -> Record | None:
    """Begin or continue the upgrade that this commit asks for.

    Returns:
        An upgrade that soaks; None where none does.

    Raises:
        ProblemError: It fails; or an upgrade to the same was rolled back before, which another one would be too.
    """
    if record is not None and record.phase is Phase.SOAKING:
        return record
    if record is None or not record.is_open:
        working = preflight.active(cluster)
        if preflight.changes_nothing(cluster, working):
            out.print("nothing to upgrade: the environment is what this commit says")
            if record is None:
                # Perhaps the canary of the first install has failed.
                smoke.check(cluster)
            return None
        if _is_to_be_repaired(cluster, working):
            _install(cluster, releases(cluster.environment, working)[1])
            return None
        if not _is_automatic(cluster):
            _check_colour(cluster)
        _check_not_rolled_back(cluster, record)
        record = command.begin(cluster, store)
    command.go_forward(cluster, store, record, holding)
    return record


def _is_to_be_repaired(cluster: Cluster, working: Colour) -> bool:
    """Whether the colour that works is ill, so that this commit is to correct it where it is.

    An upgrade begins only from one that is healthy: what is wrong could not be told from what the upgrade does.
    """
    try:
        preflight.check_health(cluster)
    except ProblemError as problem:
        version = cluster.environment.values["global"]["airflowVersion"]
        schema = deployment_preflight.check_cluster(cluster, preflight.wanted(cluster, working))
        if live.installed_version(cluster, working) != version or not schema.is_migrated:
            raise
        out.print(f"{problem.message} This commit is brought to {working} itself, without another colour")
        return True
    return False


def _check_not_rolled_back(cluster: Cluster, record: Record | None) -> None:
    """Check that the last upgrade was not one to the Airflow of this commit, and rolled back.

    Raises:
        ProblemError: It was.
    """
    if record is None or record.phase is not Phase.ROLLED_BACK or not _is_of_this_commit(cluster, record):
        return
    raise fail(
        f"an upgrade to the same values was rolled back: {record.reason.rstrip('.')}.",
        f"Commit what corrects that, or begin it again by hand: airflow-ops upgrade {cluster.environment.name} "
        f"--to {record.target.version} --in-cluster.",
        2,
    )


def _check_colour(cluster: Cluster) -> None:
    """Check that the commit names the colour that works: otherwise it would promote an upgrade before anybody saw it.

    Raises:
        ProblemError: It names the other one.
    """
    found, named = live.live_colour(cluster), objects.active_colour(cluster.environment)
    if found is not named:
        raise fail(
            f"users reach {found}, but the active colour is {named}, and no upgrade soaks that it could promote.",
            f"Commit {found} as the {cluster.environment.active_colour_key}.",
            2,
        )


def _end(cluster: Cluster, store: RecordStore, record: Record) -> None:
    """Promote an upgrade that soaks, roll it back, or leave it as it is, as the commit says.

    Raises:
        ProblemError: The commit says something that is neither this upgrade nor what worked before.
    """
    name, target = cluster.environment.name, record.target
    if _is_of_this_commit(cluster, record):
        if _is_automatic(cluster) or objects.active_colour(cluster.environment) is target.colour:
            command.finalize(cluster, store, record, brings_platform=False)
        else:
            out.print(
                f"{name} works with {describe(target)}, which soaks. To promote it, commit {target.colour} as the "
                f"{cluster.environment.active_colour_key}; to roll it back, commit what it replaced"
            )
    elif preflight.changes_nothing(cluster, record.source.colour):
        command.go_back(cluster, store, record)
    else:
        raise fail(
            f"the upgrade of {name} to {describe(target)} is soaking, and this commit says something else again.",
            f"First promote it, by a commit that only makes {target.colour} the "
            f"{cluster.environment.active_colour_key}, or roll it back: airflow-ops rollback {name} --in-cluster.",
            2,
        )


def _is_automatic(cluster: Cluster) -> bool:
    return bool(cluster.environment.values["platform"]["operations"]["promotion"] == "automatic")
