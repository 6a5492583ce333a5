"""Airflow's own programs on a real PostgreSQL, in which the owner and the other roles have logins of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from cryptography.fernet import Fernet

from airflow_ops.paths import ROOT
from support.metadata_database import Server, running_server

RIGHTS = ROOT / "charts/platform/files/scripts/database_rights.py"
AIRFLOW = Path(sys.executable).with_name("airflow")
FERNET_KEY = Fernet.generate_key().decode()
OWNER, READER, DAG_CODE = "airflow", "airflow_reader", "airflow_dag_code"


def environment(server: Server, role: str, home: Path, **more: str) -> dict[str, str]:
    """What a component has in its environment, logged in as a role."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": server.url(role),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY,
        "AIRFLOW__API__SECRET_KEY": "only-for-this-test-only-for-this-test",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        **more,
    }


def rights(url: str, *commands: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script as the Job of the migration does, with the address of the owner."""
    environment = {"PATH": os.environ["PATH"], "CONNECTION": url, **more}
    return subprocess.run([sys.executable, RIGHTS, *commands], env=environment, capture_output=True, text=True)


def execute(server: Server, *statements: str, role: str = "postgres", database: str = "airflow") -> None:
    """Run SQL as a role, each statement in a transaction of its own."""
    with server.engine(role, database).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


@contextmanager
def migrated_server(home: Path) -> Iterator[Server]:
    """A server whose database airflow was made by `airflow db migrate`, as the owner; the other roles are there too."""
    with running_server(tables=False) as server:
        execute(server, *(f"CREATE ROLE {role} LOGIN" for role in (OWNER, READER, DAG_CODE)))
        execute(server, f"ALTER DATABASE airflow OWNER TO {OWNER}", "REVOKE CONNECT ON DATABASE airflow FROM PUBLIC")
        migrate = subprocess.run(
            [AIRFLOW, "db", "migrate"], env=environment(server, OWNER, home), capture_output=True, text=True
        )
        assert migrate.returncode == 0, migrate.stderr[-3000:]
        yield server
