"""Migrate the metadata database while the older Airflow works on it, and build the bridges that it needs."""

import json
from pathlib import Path
from typing import Any

from airflow_ops.cluster import jobs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import Record, State
from airflow_ops.console import fail
from airflow_ops.manifests.objects import Object, Release, parse, template
from airflow_ops.paths import ROOT
from airflow_ops.recovery import backup as backups
from airflow_ops.upgrades import bridges

PROGRAM = Path(__file__).with_name("migration_program.py")
RIGHTS = ROOT / "charts/platform/files/scripts/database_rights.py"
"""Of this checkout: the list that was deployed before may not know a table of the new version."""
GIVE_RIGHTS = ("sh", "-c", 'CONNECTION="$AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" exec python - grant >&2')
"""Runs that program in a pod of the API server, which has the owner's login. kubectl tells the errors it prints."""
TRIES = 10
LOCK_SECONDS = 5
"""How long a statement of the migration may wait for a lock; all queries that come after it wait too."""
RESOURCES = {
    "requests": {"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "128Mi"},
    "limits": {"cpu": "2", "memory": "3Gi", "ephemeral-storage": "2Gi"},
}
"""A whole Airflow with one process of each component and two tasks takes 1.5 GB."""
EXECUTE = """
import json, sys, time
from airflow import settings
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
rows = []
for statement in json.load(sys.stdin):
    for left in reversed(range(10)):
        try:
            with settings.engine.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '2s'"))
                done = connection.execute(text(statement))
                rows.append([list(row) for row in done] if done.returns_rows else [])
            break
        except DBAPIError as error:
            if not left or error.orig.pgcode not in (LOCK_NOT_AVAILABLE, DEADLOCK):
                sys.exit(str(error.orig).strip())
            time.sleep(1)
print("rows: " + json.dumps(rows))
"""
"""Runs in a pod of the API server: each statement in a transaction of its own, again while somebody holds a lock."""


def container(cluster: Cluster, template: Object, image: str, name: str, command: list[str], **env: str) -> Object:
    """A container with an image of Airflow and the credentials of the metadata database.

    Args:
        cluster: The environment.
        template: The jobTemplate of the CronJob for backups, whose mounts and network it takes.
        image: The image.
        name: The container's name.
        command: What it runs.
        **env: Further environment variables, none of them secret.
    """
    environment = cluster.environment
    secrets = {
        **backups.admin_login(cluster),
        "AIRFLOW__CORE__FERNET_KEY": (environment.secret("fernet"), "fernet-key"),
        "AIRFLOW__API__SECRET_KEY": (environment.secret("api"), "api-secret-key"),
    }
    made = backups.container(template, "store", command, secrets)
    made["env"] += [{"name": key, "value": value} for key, value in env.items()]
    return {**made, "name": name, "image": image, "resources": RESOURCES}


def command(record: Record, database: str | None = None) -> list[str]:
    """The command that migrates the metadata database, or a copy of it.

    Args:
        record: The upgrade.
        database: Name of the copy.
    """
    settings = {
        "defaults": bridges.defaults(bridges.between(record.source.version, record.target.version)),
        "tries": TRIES,
        "lock_seconds": LOCK_SECONDS,
        "former": record.source.version,
        "database": database,
        "rights": RIGHTS.read_text(),
    }
    return ["python", "-c", PROGRAM.read_text(), json.dumps(settings)]


def auth_manager(cluster: Cluster) -> str:
    """Class of the environment's auth manager, whose tables are migrated too."""
    return str(cluster.environment.values["airflow"]["config"]["core"]["auth_manager"])


def job_names(record: Record) -> dict[State, str]:
    """Names of the Jobs of an upgrade, by which a command that continues it finds them."""
    return {state: f"airflow-upgrade-{state.lower()}-{record.id}" for state in (State.REHEARSE, State.MIGRATE)}


def migrate(cluster: Cluster, record: Record) -> dict[str, Any]:
    """Migrate the metadata database. A Job that does it already, for a command that was killed, is waited for.

    Returns:
        `seconds` that it took, `tries` until it had its locks, and columns that were `bridged`.

    Raises:
        ProblemError: It fails, or somebody holds a lock for longer than all tries take.
    """
    pattern = backups.job_template(cluster)
    run = container(
        cluster,
        pattern,
        record.target.image,
        "migrate",
        command(record),
        AIRFLOW__CORE__AUTH_MANAGER=auth_manager(cluster),
    )
    seconds = cluster.environment.values["platform"]["migration"]["deadline"]
    job = jobs.job("airflow-upgrade-migrate", pattern, [run], seconds)
    job["metadata"]["name"] = job_names(record)[State.MIGRATE]
    done: dict[str, Any] = jobs.resume_for_result(cluster, job, "migrating the metadata database")
    return done


def run_job(cluster: Cluster, platform: Release) -> None:
    """Let the migration Job of the platform's release run, where nobody installs that release after a promotion.

    The schema is there already. The Job sets pools, variables and users as the values say, which it has left alone
    as long as the former version worked.

    Args:
        cluster: The environment.
        platform: The release, without the hook.

    Raises:
        ProblemError: The Job fails.
    """
    for manifest in parse(platform, template(platform)):
        if manifest.object["metadata"].get("labels", {}).get("app.kubernetes.io/component") != "migration":
            continue
        if manifest.kind == "Job":
            jobs.complete(cluster, manifest.object, "setting pools, variables and users")
        else:
            cluster.kubectl("apply", "--server-side", "-f", "-", stdin=manifest.yaml())


def execute(cluster: Cluster, statements: list[str]) -> list[list[list[Any]]]:
    """Run SQL in the metadata database, as Airflow's role; gives the rows of each statement.

    Args:
        cluster: The environment; an API server of it runs.
        statements: Statements that may be repeated.

    Raises:
        ProblemError: The database refuses one.
    """
    if not statements:
        return []
    pod = live.ready_api_server(cluster)
    words = ("exec", "--stdin", pod, "--container", live.API_SERVER, "--", "python", "-c", EXECUTE)
    said = cluster.kubectl(*words, stdin=json.dumps(statements))
    line = next((line for line in said.splitlines() if line.startswith("rows: ")), None)
    if line is None:
        raise fail(f"the metadata database cannot be changed: {said[-300:]}", "Run the same command again.")
    rows: list[list[list[Any]]] = json.loads(line.removeprefix("rows: "))
    return rows


def give_rights(cluster: Cluster) -> None:
    """Give the database's roles the rights of this checkout's list, where an upgrade has no migration that does it.

    The new version may need more than the former one, and the platform, whose Job gives rights too, comes last.

    Raises:
        ProblemError: A role is missing or may do too much; the message has the statement to run.
    """
    pod = live.ready_api_server(cluster)
    words = ("exec", "--stdin", pod, "--container", live.API_SERVER, "--", *GIVE_RIGHTS)
    cluster.kubectl(*words, stdin=RIGHTS.read_text())


def make_readable(cluster: Cluster, record: Record) -> None:
    """From now on the former Airflow can insert every row, and no DAG run has a type that it does not know.

    Raises:
        ProblemError: The database refuses.
    """
    needed = bridges.between(record.source.version, record.target.version)
    execute(cluster, [*bridges.default_statements(needed), *bridges.rewrite_statements(needed)])


def end_rewriting(cluster: Cluster, record: Record) -> None:
    """Nothing of the newer Airflow is left: new runs need no rewriting.

    Raises:
        ProblemError: The database refuses.
    """
    if bridges.between(record.source.version, record.target.version):
        execute(cluster, bridges.REMOVE_TRIGGER)


def remove_bridges(cluster: Cluster, version: str) -> None:
    """Take back all that older versions needed: the schema of the one that works is without it.

    Args:
        cluster: The environment.
        version: The version that works, after which there is no way back.

    Raises:
        ProblemError: The database refuses.
    """
    columns = bridges.defaults(bridges.until(version))
    drops = [f'ALTER TABLE "{table}" ALTER "{column}" DROP DEFAULT' for table, column, _ in columns]
    execute(cluster, ["COMMENT ON TABLE alembic_version IS NULL", *drops, *bridges.REMOVE_TRIGGER])


def unreadable_tasks(cluster: Cluster, record: Record) -> list[str]:
    """Task instances in a state that the former Airflow does not know.

    Raises:
        ProblemError: The database does not answer.
    """
    between = bridges.between(record.source.version, record.target.version)
    states = ", ".join(f"'{state}'" for bridge in between for state in bridge.unreadable_states)
    if not states:
        return []
    query = f"SELECT DISTINCT dag_id, task_id, state FROM task_instance WHERE state IN ({states})"  # noqa: S608 our own names
    return [f"{dag}.{task} ({state})" for dag, task, state in execute(cluster, [query])[0]]
