"""`backup`: dump the metadata database to object storage now, and list what is there."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from airflow_ops import jobs
from airflow_ops.console import fail, out
from airflow_ops.kube import Cluster, connect
from airflow_ops.manifests import Object
from airflow_ops.values import Values, installed_values

CRON_JOB = "airflow-backup"
SCRIPT = "/etc/backup/backup.py"
LOOK_SECONDS = 300


def cron_job(cluster: Cluster) -> Object:
    """The environment's CronJob: image, account, store and credentials are as they were deployed.

    Raises:
        ProblemError: The environment has none.
    """
    text = cluster.kubectl("get", "cronjob", CRON_JOB, "--ignore-not-found", "--output", "json")
    if not text:
        raise fail(
            f"namespace {cluster.namespace} has no CronJob {CRON_JOB}.",
            "Set platform.backup.enabled and platform.backup.uri in values/, then deploy.",
        )
    found: Object = json.loads(text)
    return found


def job_template(cluster: Cluster) -> Object:
    """What that CronJob makes Jobs from."""
    template: Object = cron_job(cluster)["spec"]["jobTemplate"]
    return template


def container(template: Object, like: str, command: list[str], variables: dict[str, tuple[str, str]]) -> Object:
    """A container like one of the backup's, with another command.

    Args:
        template: The CronJob's jobTemplate.
        like: Name of the container whose image and mounts it takes.
        command: What it runs.
        variables: Environment from Secrets: variable to name and key; a key that is missing leaves it out.
    """
    pod = template["spec"]["template"]["spec"]
    base = next(c for c in [*pod["initContainers"], *pod["containers"]] if c["name"] == like)
    env = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
        for variable, (secret, key) in variables.items()
    ]
    return {**base, "name": command[2], "command": command, "env": [*base["env"], *env]}


def look(cluster: Cluster, values: Values) -> Any:
    """What the store and the database server hold; see `look` in charts/platform/files/scripts/backup.py."""
    template = job_template(cluster)
    admin = {"CONNECTION_ADMIN": (values["global"]["secrets"]["metadata"], "connection-admin")}
    looking = container(template, "store", ["python", SCRIPT, "look"], admin)
    return jobs.run(cluster, jobs.job("airflow-restore-look", template, [looking], LOOK_SECONDS), "looking at backups")


def backup_job(found: Object) -> Object:
    """The Job that a CronJob would make now; as its own, it counts as the CronJob's last success."""
    template = found["spec"]["jobTemplate"]
    pod = template["spec"]["template"]["spec"]
    steps = [*pod["initContainers"], *pod["containers"]]
    wanted = jobs.job(CRON_JOB, template, steps, template["spec"]["activeDeadlineSeconds"])
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": CRON_JOB, "uid": found["metadata"]["uid"]}
    wanted["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    return wanted


def megabytes(size: int) -> str:
    """A size in megabytes, for people."""
    return f"{size / 1e6:.1f} MB"


def _show(backups: list[dict[str, Any]]) -> None:
    table = Table("backup", "begun (UTC)", "size")
    for backup in backups:
        table.add_row(backup["name"], backup["started"].removesuffix("+00:00"), megabytes(backup["bytes"]))
    out.print(table if backups else "there is no backup")


def backup(
    environment: Annotated[str, typer.Argument(metavar="ENV", help="dev, staging or prod: a file in values/.")],
    list_only: Annotated[bool, typer.Option("--list", help="Make none; show those that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Dump an environment's metadata database to object storage, as its CronJob does every night.

    Airflow goes on meanwhile. What the Fernet key encrypts stays encrypted, and the key is not in it.

    Example: airflow-ops backup prod
    """
    values = installed_values(environment)
    cluster = connect(environment)
    if list_only:
        backups = look(cluster, values)["backups"]
        out.print_json(data=backups) if as_json else _show(backups)
        return
    made = jobs.run(cluster, backup_job(cron_job(cluster)), "backing up")
    if as_json:
        out.print_json(data=made)
        return
    out.print(
        f"[green]ok[/] {made['name']} ({megabytes(made['bytes'])}) is in {made['uri']}: "
        f"{made['kept']} backups, {len(made['deleted'])} old ones deleted",
        highlight=False,
        soft_wrap=True,
    )
