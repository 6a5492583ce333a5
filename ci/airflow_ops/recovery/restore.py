"""`restore`: put a backup in place of the metadata database, even where there is no database any more."""

import time
from typing import Annotated, Any

import typer

from airflow_ops.cluster import components, jobs, lease
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.colours import live
from airflow_ops.console import err, fail, out, styled
from airflow_ops.deployment import live_checks, maintenance, smoke
from airflow_ops.deployment.deploy import install
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Object
from airflow_ops.options import EnvironmentName, TrialOverlays
from airflow_ops.recovery import backup as backups

Backup = dict[str, Any]
"""One backup; `Backup` in charts/platform/files/scripts/backup.py describes its keys."""
SWAP_SECONDS = 300


def restore(
    name: EnvironmentName,
    backup: Annotated[
        str | None, typer.Argument(metavar="BACKUP", help="A name from `backup ENV --list`; the newest by default.")
    ] = None,
    overlay: TrialOverlays = None,
    discard_newer_runs: Annotated[
        bool, typer.Option("--discard-newer-runs", help="Restore even if the database has runs made after the backup.")
    ] = False,
    accept_unauthenticated: Annotated[
        bool,
        typer.Option(
            "--accept-unauthenticated",
            help="Restore BACKUP although no key of the environment authenticates it; whatever SQL is in it is run.",
        ),
    ] = False,
) -> None:
    """Restore an environment's metadata database from a backup, start Airflow again and run the canary.

    Only a backup that the environment itself has made is taken: a key in a
    Secret of its own authenticates it. It is first loaded into a second
    database and checked there: checksum, revision, Fernet key. Only then is
    Airflow stopped and the second database put in place of the present one,
    which is kept under another name. A restore that was cut off can be run
    again.

    Example: airflow-ops restore dev
    """
    if accept_unauthenticated and backup is None:
        raise fail(
            "--accept-unauthenticated needs the name of the backup.",
            f"`airflow-ops backup {name} --list` shows those that exist, and which of them are authenticated.",
            2,
        )
    started = time.monotonic()
    cluster = connect(Environment.load(name, overlay))
    with lease.hold(cluster, f"restore {backup} --accept-unauthenticated" if accept_unauthenticated else "restore"):
        live_checks.check_owner(cluster)
        live_checks.check_colour(cluster)
        chosen = _bring_back(cluster, backup, discard_newer_runs, accept_unauthenticated)
        smoke.check(cluster)
    out.print(f"restored {name} from {chosen['name']} in {time.monotonic() - started:.0f} s")


def _bring_back(cluster: Cluster, name: str | None, discard_newer_runs: bool, accept_unauthenticated: bool) -> Backup:
    """Put a backup in place of the database and start Airflow, from wherever an earlier restore was cut off."""
    found = backups.inspect(cluster)
    chosen = choose(found["backups"], name, cluster.environment.name, accept_unauthenticated=accept_unauthenticated)
    if is_swapped(found, chosen) and components.stopped_deployments(cluster):
        out.print(f"{chosen['name']} is in place already: continuing with the start of Airflow")
        start(cluster)
    else:
        check(found, chosen, discard_newer_runs)
        load(cluster, chosen)
        swap(cluster, chosen, discard_newer_runs)
    return chosen


def choose(found: list[Backup], name: str | None, environment: str, *, accept_unauthenticated: bool = False) -> Backup:
    """The backup with a name, or the newest that is authenticated.

    Args:
        found: The backups there are, oldest first.
        name: The one that is wanted, if any.
        environment: Whose backups they are.
        accept_unauthenticated: Whether the one of that name is taken though no key authenticates it.

    Raises:
        ProblemError: There is no such backup, or it is not authenticated.
    """
    for each in reversed(found):
        if name in (None, each["name"]):
            reason = backups.doubt(each)
            if not reason:
                return each
            if name is not None:
                return _doubtful(each, reason, environment, accept_unauthenticated)
            err.print(
                f"passed over: {backups.shown(each['name'])} is not authenticated: {backups.shown(reason)}",
                soft_wrap=True,
            )
    if name is None and found:
        raise fail(f"no backup of {environment} is authenticated.", _on_purpose(environment, "BACKUP"))
    raise fail(
        f"there is no backup {name or ''} of {environment}.".replace("  ", " "),
        f"`airflow-ops backup {environment} --list` shows those that exist.",
        2,
    )


def _doubtful(chosen: Backup, reason: str, environment: str, accepted: bool) -> Backup:
    """A backup that is not authenticated, if it is accepted so.

    Raises:
        ProblemError: It is not.
    """
    name = chosen["name"]
    if not accepted:
        raise fail(f"{name} is not authenticated: {reason}.", _on_purpose(environment, name))
    said = f"{name} ({reason}); the SHA-256 of its dump is {chosen['sha256']}"
    err.print(f"accepted although it is not authenticated: {backups.shown(said)}", soft_wrap=True)
    return chosen


def _on_purpose(environment: str, name: str) -> str:
    """How to restore a backup that is not authenticated."""
    return (
        "Whatever SQL is in a dump runs as the owner of the database. If you know who made it, take it on purpose: "
        f"airflow-ops restore {environment} {name} --accept-unauthenticated. Nothing was changed."
    )


def _with_backup(step: Object, chosen: Backup) -> Object:
    """A step of backup.py, which is told if the backup was accepted although no key authenticates it.

    With its checksum, so that nothing else is restored that gets the name before the step begins.
    """
    if not backups.doubt(chosen):
        return step
    accepted = {"name": "ACCEPT_UNAUTHENTICATED", "value": f"{chosen['name']}:{chosen['sha256']}"}
    return {**step, "env": [*step["env"], accepted]}


def is_swapped(found: dict[str, Any], chosen: Backup) -> bool:
    """Whether a restore has already put this backup in place."""
    return bool(found["database"] and found["database"]["comment"] == f"restored from {chosen['name']}")


def check(found: dict[str, Any], chosen: Backup, discard_newer_runs: bool) -> None:
    """Check that a backup can be restored, before anything is changed.

    Args:
        found: The result of `backup.inspect`.
        chosen: The backup.
        discard_newer_runs: Whether runs may be lost.

    Raises:
        ProblemError: The image needs another schema, the role may not create databases, or runs would be lost.
    """
    differ = {table: rev for table, rev in found["heads"].items() if chosen["revision"].get(table) != rev}
    if not chosen["fits"]:
        raise fail(
            f"{chosen['name']} has the schema of Airflow {chosen['airflow']}: "
            + ", ".join(f"{t} is {chosen['revision'].get(t)}, this image needs {rev}" for t, rev in differ.items())
            + ".",
            f"Write Airflow {chosen['airflow']} and its image into values/, then run this again: it installs them too.",
        )
    if not found["may_create"]:
        raise fail(
            "the role of the metadata Secret may not create databases.",
            "Give that Secret the key connection-admin, with a role that may (charts/platform/README.md).",
        )
    newer = (found["database"] or {}).get("newer_runs", {}).get(chosen["name"], 0)
    if newer and not discard_newer_runs:
        raise fail(
            f"the database has {newer} DAG runs that were made after {chosen['name']}, and they would be lost.",
            "Nothing was changed. To lose them anyway, add --discard-newer-runs; the present database is kept.",
        )


def load(cluster: Cluster, chosen: Backup) -> None:
    """Load a backup into a second database and check it there; Airflow keeps running.

    Raises:
        ProblemError: The backup is damaged, or does not fit this image or this Fernet key.
    """
    began = time.monotonic()
    template = backups.job_template(cluster)
    logins = {**backups.admin_login(cluster), **backups.key(cluster)}
    fernet_key = {"FERNET_KEY": (cluster.environment.secret("fernet"), "fernet-key")}
    script, name = ["python", backups.SCRIPT], chosen["name"]
    steps = [
        _with_backup(backups.container(template, "store", [*script, "fetch", name], logins), chosen),
        {**backups.container(template, "dump", ["bash", "/etc/backup/backup_load.sh", "load"], {}), "name": "load"},
        _with_backup(backups.container(template, "store", [*script, "verify", name], {**logins, **fernet_key}), chosen),
    ]
    job = jobs.job("airflow-restore", template, steps, template["spec"]["activeDeadlineSeconds"])
    loaded = jobs.run_for_result(cluster, job, f"loading {name}")
    out.print(
        styled("ok", "green"),
        f"{name} is loaded: {loaded['runs']} runs, the present Fernet key decrypts all "
        f"{loaded['decrypted']} encrypted values ({time.monotonic() - began:.0f} s)",
        soft_wrap=True,
    )


def swap(cluster: Cluster, chosen: Backup, discard_newer_runs: bool) -> None:
    """Stop Airflow, put the loaded database in place, and start Airflow.

    Raises:
        ProblemError: The databases could not be swapped; Airflow was started again on the present one.
    """
    template = backups.job_template(cluster)
    logins = {**backups.admin_login(cluster), **backups.key(cluster)}
    command = ["python", backups.SCRIPT, "swap", chosen["name"]]
    command += ["--discard-newer-runs"] if discard_newer_runs else []
    step = _with_backup(backups.container(template, "store", command, logins), chosen)
    job = jobs.job("airflow-restore-swap", template, [step], SWAP_SECONDS)
    began = time.monotonic()
    components.stop(cluster)
    try:
        former = jobs.run_for_result(cluster, job, "putting the database in place")["former"]
    except BaseException:
        components.start_again(cluster)
        raise
    start(cluster)
    out.print(f"Airflow was stopped for {time.monotonic() - began:.0f} s")
    if former:
        out.print(f"the former database is kept as {former}: drop it when nothing is missing")


def start(cluster: Cluster) -> None:
    """Start Airflow; where the values say another version than is installed, install that: the backup is its.

    Raises:
        ProblemError: It does not start.
    """
    version, colour = cluster.environment.values["global"]["airflowVersion"], live.live_colour(cluster)
    if colour and live.installed_version(cluster, colour) not in (None, version):
        install(cluster)
        maintenance.end(cluster, colour)
    else:
        components.start_again(cluster)
