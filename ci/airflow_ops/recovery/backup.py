"""`backup`: dump the metadata database to object storage now, or list the backups there."""

from typing import Annotated, Any

import typer

from airflow_ops.cluster import jobs
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.console import counted, err, out, plain, show, styled, table
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Object
from airflow_ops.options import AsJson, EnvironmentName, TrialOverlays

CRON_JOB = "airflow-backup"
SCRIPT = "/etc/backup/backup.py"
INSPECT_SECONDS = 300
KEY = "BACKUP_KEY"
"""Environment variable of backup.py with the keys that authenticate backups."""


def cron_job(cluster: Cluster) -> Object:
    """The environment's CronJob for backups.

    Raises:
        ProblemError: The environment has none.
    """
    return jobs.cron_job(
        cluster, CRON_JOB, "Set platform.backup.enabled and platform.backup.uri in values/, then deploy."
    )


def job_template(cluster: Cluster) -> Object:
    """The Job template of that CronJob, with the Airflow of the values: a restore may bring back another version."""
    template: Object = cron_job(cluster)["spec"]["jobTemplate"]
    pod = template["spec"]["template"]["spec"]
    steps = [*pod["initContainers"], *pod["containers"]]
    airflow = next(step["image"] for step in steps if step["name"] == "store")
    for step in steps:
        if step["image"] == airflow:
            step["image"] = cluster.environment.image
        for variable in step["env"]:
            if variable["name"] == "AIRFLOW_VERSION":
                variable["value"] = cluster.environment.values["global"]["airflowVersion"]
    return template


def container(template: Object, like: str, command: list[str], variables: dict[str, tuple[str, str]]) -> Object:
    """A copy of one of the backup's containers, with another command, and without the key of backups.

    Airflow and DAGs run in some of them. Who needs the key asks for it with `key`.

    Args:
        template: The CronJob's jobTemplate.
        like: Name of the container whose image and mounts it takes.
        command: What it runs.
        variables: Environment variable to the Secret's name and key; a variable whose key is missing is not set. They
            replace those of the container.
    """
    pod = template["spec"]["template"]["spec"]
    base = next(c for c in [*pod["initContainers"], *pod["containers"]] if c["name"] == like)
    env = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
        for variable, (secret, key) in variables.items()
    ]
    kept = [each for each in base["env"] if each["name"] not in {*variables, KEY}]
    return {**base, "name": command[2], "command": command, "env": [*kept, *env]}


def owner_login(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """The variable with the owner's login, with the Secret's name and key for it: a backup's own may only read."""
    return {"CONNECTION": (cluster.environment.secret("metadata"), "connection-direct")}


def admin_login(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """The same for the owner and for a login that may create databases."""
    return {**owner_login(cluster), "CONNECTION_ADMIN": (cluster.environment.secret("metadata"), "connection-admin")}


def key(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """The environment variable with the keys that authenticate backups, and the Secret's name and key for it."""
    return {KEY: (cluster.environment.secret("backup"), "backup-key")}


def doubt(backup: dict[str, Any]) -> str:
    """Why a backup is not authenticated; empty if it is. The script of an older deploy has checked nothing."""
    return str(
        backup.get("unauthenticated", f"the deployed CronJob {CRON_JOB} is of an older release and checks none: deploy")
    )


def inspect(cluster: Cluster) -> Any:
    """The backups in the store and the state of the database: the result of `backup.py look` (charts/platform).

    What lies in the store and is skipped is named: it may be the backup that the user means.
    """
    template = job_template(cluster)
    step = container(template, "store", ["python", SCRIPT, "look"], {**admin_login(cluster), **key(cluster)})
    wanted = jobs.job("airflow-restore-look", template, [step], INSPECT_SECONDS)
    found = jobs.run_for_result(cluster, wanted, "reading the list of backups")
    warn_of_skipped(found)
    return found


def warn_of_skipped(result: dict[str, Any]) -> None:
    """Name what lies in the folder of the backups and is none; a CronJob of an older deploy does not tell."""
    for name, reason in result.get("skipped", {}).items():
        err.print(f"skipped: {shown(name)} {shown(reason)}", soft_wrap=True)


def backup_job(found: Object) -> Object:
    """The Job that a CronJob would make now. The CronJob owns it, so that it counts as the CronJob's last success."""
    template = found["spec"]["jobTemplate"]
    pod = template["spec"]["template"]["spec"]
    steps = [*pod["initContainers"], *pod["containers"]]
    wanted = jobs.job(CRON_JOB, template, steps, template["spec"]["activeDeadlineSeconds"])
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": CRON_JOB, "uid": found["metadata"]["uid"]}
    wanted["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    return wanted


def shown(text: str) -> str:
    """What the store says, as one line: others write there too, and older scripts pass on whatever names they find."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def megabytes(size: int) -> str:
    """A size in megabytes, for output."""
    return f"{size / 1e6:.1f} MB"


def _show(backups: list[dict[str, Any]]) -> None:
    rows = table("backup", "begun (UTC)", "size", "authenticated")
    for backup in backups:
        reason = doubt(backup)
        rows.add_row(
            shown(backup["name"]),
            shown(backup["started"].removesuffix("+00:00")),
            megabytes(backup["bytes"]),
            f"no: {shown(reason)}" if reason else "yes",
        )
    if backups:
        show(rows)
    else:
        out.print("there is no backup")


def backup(
    name: EnvironmentName,
    overlay: TrialOverlays = None,
    list_only: Annotated[bool, typer.Option("--list", help="Make no backup; list those that exist.")] = False,
    as_json: AsJson = False,
) -> None:
    """Dump an environment's metadata database to object storage, as its CronJob does every night.

    Airflow keeps running meanwhile. Values that the Fernet key encrypts stay
    encrypted in the backup, which does not contain the key.

    Example: airflow-ops backup prod
    """
    cluster = connect(Environment.load(name, overlay))
    if list_only:
        backups = inspect(cluster)["backups"]
        out.print_json(data=backups, ensure_ascii=True) if as_json else _show(backups)
        return
    made = jobs.run_for_result(cluster, backup_job(cron_job(cluster)), "backing up")
    warn_of_skipped(made)
    if as_json:
        out.print_json(data=made, ensure_ascii=True)
        return
    out.print(
        styled("ok", "green"),
        f"{made['name']} ({megabytes(made['bytes'])}) is in {made['uri']}: "
        f"{counted(made['kept'], 'backup')}, {len(made['deleted'])} old deleted",
        soft_wrap=True,
    )
