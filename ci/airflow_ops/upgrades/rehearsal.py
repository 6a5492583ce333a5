"""Rehearse a migration on a copy of the metadata database: does the former Airflow work on the new schema?"""

import contextlib
import math
from pathlib import Path
from typing import Any

from airflow_ops.cluster import jobs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours.record import Record, Rehearsal, State
from airflow_ops.console import ProblemError, counted, fail
from airflow_ops.recovery import backup as backups
from airflow_ops.upgrades import migration

PROGRAM = Path(__file__).with_name("rehearsal_program.py")
DATABASE = "airflow_rehearsal"
"""Another one than that of a restore: a rehearsal empties connections and variables."""
TRIAL_SECONDS = 1800
"""Two whole Airflows start and run a DAG; on a busy node each may take ten minutes."""
DROP_SECONDS = 120
MOST_SECONDS = 60
"""The longest migration beside a working Airflow. A statement of it may block all of Airflow's for as long as it takes,
and a task gives up after three minutes without an answer."""


def rehearse(cluster: Cluster, record: Record) -> Rehearsal:
    """Restore the snapshot into a copy, migrate that, and let both versions of Airflow work on it; then drop it.

    Raises:
        ProblemError: The copy cannot be made or migrated, or one of the two does not work on it.
    """
    wanted = job(cluster, record)
    try:
        found = jobs.resume_for_result(cluster, wanted, "rehearsing the migration on a copy")
    except Exception:
        # Not after a signal: the next command goes on with the Job and its copy.
        with contextlib.suppress(ProblemError):
            jobs.end(cluster, wanted["metadata"]["name"])
            _drop(cluster)
        raise
    with contextlib.suppress(ProblemError):
        _drop(cluster)
    return judge(cluster.environment.name, record, found)


def job(cluster: Cluster, record: Record) -> dict[str, Any]:
    """The Job that restores the snapshot into a copy, migrates that, and tries both versions on it."""
    template = backups.job_template(cluster)
    script = ["python", backups.SCRIPT]
    manager = migration.auth_manager(cluster)
    logins = {**backups.admin_login(cluster), **backups.key(cluster)}

    def trial(image: str, name: str) -> dict[str, Any]:
        run = ["python", "-c", PROGRAM.read_text(), "try", name]
        return migration.container(cluster, template, image, name, run, DATABASE=DATABASE, AUTH_MANAGER=manager)

    steps = [
        _into_copy(backups.container(template, "store", [*script, "fetch", record.backup], logins)),
        {**backups.container(template, "dump", ["bash", "/etc/backup/backup_load.sh", "load"], {}), "name": "load"},
        migration.container(
            cluster,
            template,
            record.target.image,
            "migrate",
            migration.command(record, DATABASE),
            AIRFLOW__CORE__AUTH_MANAGER=manager,
        ),
        trial(record.source.image, "former"),
        trial(record.target.image, "new"),
    ]
    migrating = cluster.environment.values["platform"]["migration"]["deadline"]
    seconds = template["spec"]["activeDeadlineSeconds"] + migrating + TRIAL_SECONDS
    made = jobs.job("airflow-upgrade-rehearse", template, steps, seconds)
    made["metadata"]["name"] = migration.job_names(record)[State.REHEARSE]
    return made


def clean_up(cluster: Cluster, record: Record) -> None:
    """End the Jobs that a command which was killed has left behind, and drop its copy: nothing is to change afterwards.

    Raises:
        ProblemError: A Job cannot be deleted.
    """
    if not record.migrates:
        return
    for name in migration.job_names(record).values():
        jobs.end(cluster, name)
    if record.rehearsal is None and any(passage.state is State.REHEARSE for passage in record.passages):
        with contextlib.suppress(ProblemError):
            _drop(cluster)


def _into_copy(step: dict[str, Any]) -> dict[str, Any]:
    return {**step, "env": [*step["env"], {"name": "RESTORED", "value": DATABASE}]}


def _drop(cluster: Cluster) -> None:
    template = backups.job_template(cluster)
    command = ["python", "-c", PROGRAM.read_text(), "drop"]
    step = backups.container(template, "store", command, backups.admin_login(cluster))
    step = {**step, "name": "drop", "env": [*step["env"], {"name": "DATABASE", "value": DATABASE}]}
    jobs.run_for_result(cluster, jobs.job("airflow-upgrade-drop-copy", template, [step], DROP_SECONDS), "dropping")


def judge(environment: str, record: Record, found: dict[str, Any]) -> Rehearsal:
    """What the rehearsal says about the upgrade.

    Raises:
        ProblemError: It has to wait for a maintenance window, or the new Airflow does not work at all.
    """
    source, target, migrated = record.source.version, record.target.version, found["migrated"]
    if found["new"]["problems"]:
        raise fail(
            f"Airflow {target} does not work on a migrated copy: {'; '.join(found['new']['problems'])}.",
            "Look at the log of the Job airflow-upgrade-rehearse.",
        )
    if migrated["lost"]:
        raise fail(
            f"the migration to Airflow {target} loses rows: {'; '.join(migrated['lost'])}.",
            "Find out whether you need them. If not, delete them from these tables before you begin again.",
        )
    problems = [*migrated["incompatible"], *found["former"]["problems"]]
    if migrated["seconds"] > MOST_SECONDS:
        problems.append(
            f"the migration takes {migrated['seconds']:.0f} s, at most {MOST_SECONDS} s are possible beside it"
        )
    if problems:
        minutes = math.ceil((migrated["seconds"] + found["new"]["start_seconds"]) / 60)
        raise fail(
            f"Airflow {source} does not work on the schema of {target}: {'; '.join(problems)}.",
            f"Announce a maintenance window of {counted(minutes, 'minute')} after the last task has ended, then: "
            f"airflow-ops deploy {environment} --maintenance-window.",
        )
    return Rehearsal(
        migration_seconds=migrated["seconds"],
        database_bytes=migrated["bytes"],
        start_seconds=found["new"]["start_seconds"],
        bridged=migrated["bridged"],
    )
