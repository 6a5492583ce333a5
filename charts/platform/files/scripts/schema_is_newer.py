"""Exit with 0 if the metadata database has a schema of Airflow that is newer than this image, else with 1."""

import os
import sys
from importlib.resources import files

import sqlalchemy as sa
from alembic.script import ScriptDirectory


def is_newer(url: str) -> bool:
    """Whether a newer Airflow has migrated the database; its own migrations are all that an image knows.

    Args:
        url: Address of the metadata database.
    """
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as database:
        if not sa.inspect(database).has_table("alembic_version"):
            return False
        found = database.scalar(sa.text("SELECT version_num FROM alembic_version"))
    known = ScriptDirectory(str(files("airflow.migrations"))).walk_revisions()
    return found is not None and found not in {script.revision for script in known}


if __name__ == "__main__":
    sys.exit(not is_newer(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]))
