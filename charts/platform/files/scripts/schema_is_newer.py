"""Exit with 0 if the metadata database has a newer schema than this image, on which its Airflow was seen to work.

That is so after the rollback of an upgrade with a migration: `airflow-ops upgrade` writes it into the table's comment.
Any other schema is for `airflow db migrate`, which refuses one that it does not know.
"""

import os
import sys
from importlib.resources import files

import sqlalchemy as sa
from airflow import __version__
from alembic.script import ScriptDirectory

REVISIONS = {"alembic_version": "airflow.migrations", "alembic_version_fab": "airflow.providers.fab.migrations"}


def is_newer(url: str) -> bool:
    """Whether a newer Airflow has migrated the database, and this one works on it.

    Args:
        url: Address of the metadata database.
    """
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as database:
        there = [table for table in REVISIONS if sa.inspect(database).has_table(table)]
        comment = sa.text("SELECT obj_description(to_regclass('alembic_version'))")
        if "alembic_version" not in there or database.scalar(comment) != f"Airflow {__version__} works on it":
            return False
        found = {table: database.scalar(sa.text(f"SELECT version_num FROM {table}")) for table in there}  # noqa: S608 our own names
    return any(revision not in known(REVISIONS[table]) for table, revision in found.items())


def known(package: str) -> set[str]:
    """The revisions that this image knows."""
    return {script.revision for script in ScriptDirectory(str(files(package))).walk_revisions()}


if __name__ == "__main__":
    sys.exit(not is_newer(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]))
