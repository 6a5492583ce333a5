"""Print what a migration may do with the metadata database: one of the words of `State`.

NEWER is what the rollback of an upgrade with a migration leaves: `airflow-ops upgrade` writes into the table's comment
which older Airflow works on it. Any other schema that this image does not know is for `airflow db migrate` to refuse.
"""

import os
from enum import StrEnum
from importlib.resources import files

import sqlalchemy as sa
from airflow import __version__
from alembic.script import ScriptDirectory

REVISIONS = {"alembic_version": "airflow.migrations", "alembic_version_fab": "airflow.providers.fab.migrations"}
ALIVE = """
SELECT count(*) FROM job
WHERE state = 'running' AND latest_heartbeat > CURRENT_TIMESTAMP - INTERVAL '30' SECOND
  AND job_type IN ('SchedulerJob', 'DagProcessorJob', 'TriggererJob')
"""
"""Components that work. Thirty seconds are Airflow's own threshold for a scheduler."""


class State(StrEnum):
    """What a migration finds."""

    FREE = "free"
    """Nothing works on it, or the schema is this image's already."""
    NEWER = "newer"
    """A newer Airflow has migrated it, and this one works on it."""
    IN_USE = "in-use"
    """An Airflow works on it that needs another schema than this image."""


def state(url: str) -> State:
    """What a migration may do with a database.

    Args:
        url: Address of the metadata database.
    """
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as database:
        there = [table for table in REVISIONS if sa.inspect(database).has_table(table)]
        if "alembic_version" not in there:
            return State.FREE
        found = {table: database.scalar(sa.text(f"SELECT version_num FROM {table}")) for table in there}  # noqa: S608 our own names
        comment = database.scalar(sa.text("SELECT obj_description(to_regclass('alembic_version'))"))
        scripts = {table: ScriptDirectory(str(files(REVISIONS[table]))) for table in there}
        if comment == f"Airflow {__version__} works on it" and any(
            revision not in {script.revision for script in scripts[table].walk_revisions()}
            for table, revision in found.items()
        ):
            return State.NEWER
        is_current = all(scripts[table].get_current_head() == revision for table, revision in found.items())
        # A first migration that was cut off has made only some of the tables.
        if is_current or not sa.inspect(database).has_table("job"):
            return State.FREE
        return State.IN_USE if database.scalar(sa.text(ALIVE)) else State.FREE


if __name__ == "__main__":
    print(state(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]))
