"""`upgrade`, `rollback` and `promote`: move an environment to its other colour, back again, or for good."""

from typing import Annotated, NoReturn

import typer

from airflow_ops.cluster import lease
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.colours import live
from airflow_ops.colours.record import ASKED_FOR, Phase, Record, RecordStore, State
from airflow_ops.console import fail, out, styled
from airflow_ops.deployment import helm
from airflow_ops.deployment import preflight as deployment_preflight
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import active_colour, releases
from airflow_ops.options import EnvironmentName, InCluster, TrialOverlays
from airflow_ops.upgrades import in_cluster_job, machine, migration, preflight, prober
from airflow_ops.upgrades.report import describe, show_record
from airflow_ops.upgrades.steps import Move


def upgrade(
    name: EnvironmentName,
    to: Annotated[str, typer.Option(metavar="VERSION", help="Airflow's version; the one that values/ say.")],
    image: Annotated[
        str, typer.Option(metavar="REPOSITORY:TAG", help="Its image, if that is to be checked too; the one of values/.")
    ] = "",
    overlay: TrialOverlays = None,
    in_cluster: InCluster = False,
) -> None:
    """Upgrade an environment to what values/ say: another version, image or configuration of Airflow.

    The other colour is started beside the present one, takes over users, then
    scheduling, and runs the canary. Tasks keep running. If a state fails, the
    former colour takes over again. An upgrade that was cut off continues when it
    is run again. Afterwards: `promote`, or `rollback`.

    Example: airflow-ops upgrade dev --to 3.3.2
    """
    cluster = connect(Environment.load(name, overlay))
    preflight.check_asked(cluster, to, image)
    if in_cluster:
        _run_in_cluster(cluster, "upgrade", overlay, "--to", to)
    preflight.active(cluster)
    deployment_preflight.check_files(cluster)
    with lease.hold(cluster, "upgrade") as holding:
        store = RecordStore(cluster)
        record = store.read()
        if record is not None and record.phase is Phase.SOAKING and is_of_this_checkout(cluster, record):
            out.print(f"{name} works with {describe(record.target)} already: promote it, or roll it back")
            return
        if record is not None and record.is_open:
            _check_continues(cluster, record)
        elif preflight.changes_nothing(cluster, preflight.active(cluster)):
            out.print("nothing to upgrade: the environment is what values/ say")
            return
        else:
            record = begin(cluster, store)
        go_forward(cluster, store, record, holding)
    out.print(
        f"{name} works with {describe(record.target)}. Watch it, then `airflow-ops promote {name}`; "
        f"`airflow-ops rollback {name}` goes back to {describe(record.source)}"
    )


def _run_in_cluster(cluster: Cluster, verb: str, overlay: list[str] | None, *options: str) -> NoReturn:
    """Run a verb of this module as a Job, and end with its exit code."""
    overlays = [word for each in overlay or [] for word in ("--overlay", each)]
    raise typer.Exit(in_cluster_job.run(cluster, verb, cluster.environment.name, *overlays, *options))


def begin(cluster: Cluster, store: RecordStore) -> Record:
    """Check all that an upgrade needs, then write its record.

    Args:
        cluster: The environment.
        store: Where its record is kept.

    Raises:
        ProblemError: A check fails; nothing was changed.
    """
    active = preflight.active(cluster)
    # Only the colour's manifests: what the platform's would make is not made before the promotion.
    manifests = preflight.wanted(cluster, live.other(active))
    schema = deployment_preflight.check_cluster(cluster, manifests)
    migrates = preflight.check_schema(cluster, schema, live.installed_version(cluster, active))
    preflight.check_source(cluster, active)
    preflight.check_health(cluster)
    record = preflight.new_record(cluster, active, manifests, migrates)
    prober.start(cluster, record)
    store.write(record)
    return record


def go_forward(cluster: Cluster, store: RecordStore, record: Record, holding: lease.Holding) -> None:
    """Run the states of an upgrade that are not passed yet, and show how they went.

    Raises:
        ProblemError: One failed; the former colour works again.
    """
    machine.go_forward(Move(cluster, record, record.target), store, lambda: not holding.lost)
    show_record(record)


def _check_continues(cluster: Cluster, record: Record) -> None:
    """Check that an upgrade which has begun can be continued.

    Raises:
        ProblemError: It is past that, or it began with other values.
    """
    name = cluster.environment.name
    if record.phase is not Phase.UPGRADING:
        raise fail(
            f"the upgrade of {name} to {describe(record.target)} is {record.phase}.",
            f"Finish it first: airflow-ops rollback {name}"
            + (f", or airflow-ops promote {name}." if record.phase is Phase.SOAKING else "."),
            2,
        )
    _check_checkout(cluster, record)
    out.print(f"continues the upgrade {record.id} to {describe(record.target)}")


def _check_checkout(cluster: Cluster, record: Record) -> None:
    """Check that this checkout is the one with which an upgrade began.

    Raises:
        ProblemError: Its values or charts are others.
    """
    name = cluster.environment.name
    if not is_of_this_checkout(cluster, record):
        raise fail(
            f"the upgrade of {name} began with other values or charts than this checkout has.",
            f"Use that checkout and its overlays, or go back: airflow-ops rollback {name}.",
            2,
        )


def is_of_this_checkout(cluster: Cluster, record: Record) -> bool:
    """Whether an upgrade is one to what the charts and values of this checkout say."""
    target = record.target.colour
    return preflight.digest(cluster, target, preflight.wanted(cluster, target)) == record.digest


def rollback(
    name: EnvironmentName,
    overlay: TrialOverlays = None,
    in_cluster: InCluster = False,
) -> None:
    """Go back from an upgrade that is not promoted: the former colour takes over again, while tasks keep running.

    It can be run again if it was cut off, and while tasks that the new colour
    started still run.

    Example: airflow-ops rollback dev
    """
    cluster = connect(Environment.load(name, overlay))
    if in_cluster:
        _run_in_cluster(cluster, "rollback", overlay)
    with lease.hold(cluster, "rollback"):
        store = RecordStore(cluster)
        go_back(cluster, store, _open_record(store, name))


def go_back(cluster: Cluster, store: RecordStore, record: Record) -> None:
    """Roll back an upgrade that is not promoted, and show how that went.

    Raises:
        ProblemError: A state failed, or tasks stand in the way; running it again continues.
    """
    move = Move(cluster, record, record.source)
    if record.phase is Phase.SOAKING and (left := migration.unreadable_tasks(cluster, record)):
        raise fail(
            f"Airflow {record.source.version} does not know the state of {', '.join(left[:5])}.",
            "Answer them on the page, or mark them as failed, then run this again.",
            2,
        )
    if record.phase is not Phase.ROLLING_BACK:
        machine.begin_rollback(move, store, ASKED_FOR)
    machine.go_back(move, store)
    show_record(record)
    out.print(f"{cluster.environment.name} works with {describe(record.source)} again")


def promote(
    name: EnvironmentName,
    overlay: TrialOverlays = None,
    in_cluster: InCluster = False,
) -> None:
    """End an upgrade: stop what is left of the former colour. After that the way back is another upgrade.

    Example: airflow-ops promote dev
    """
    cluster = connect(Environment.load(name, overlay))
    if in_cluster:
        _run_in_cluster(cluster, "promote", overlay)
    with lease.hold(cluster, "promote"):
        store = RecordStore(cluster)
        record = _open_record(store, name)
        if record.phase is not Phase.SOAKING:
            raise fail(f"the upgrade of {name} is {record.phase}, not soaking.", "Only what works can be promoted.", 2)
        _check_checkout(cluster, record)
        finalize(cluster, store, record, brings_platform=helm.was_installed(cluster, releases(cluster.environment)[0]))
    colour = record.target.colour
    if active_colour(cluster.environment) is not colour:
        out.print(f"make {colour} the {cluster.environment.active_colour_key}: `deploy` refuses until then")


def finalize(cluster: Cluster, store: RecordStore, record: Record, *, brings_platform: bool) -> None:
    """Promote an upgrade that soaks.

    Args:
        cluster: The environment.
        store: Where its record is kept.
        record: The upgrade, to what this checkout says.
        brings_platform: See `Move`.

    Raises:
        ProblemError: The former colour cannot be stopped, or the platform not be installed; running it again continues.
    """
    move = Move(cluster, record, record.target, brings_platform)
    machine.run_state(move, store, State.FINALIZE, "stop the former colour and bring the platform to the new version")
    record.phase = Phase.PROMOTED
    store.write(record)
    out.print(styled("ok", "green"), f"{describe(record.target)} is promoted")


def _open_record(store: RecordStore, name: str) -> Record:
    record = store.read()
    if record is None or not record.is_open:
        said = f"the last one is {record.phase}" if record else "there was none"
        raise fail(
            f"no upgrade of {name} is under way: {said}.", f"Begin one: airflow-ops upgrade {name} --to VERSION.", 2
        )
    return record
