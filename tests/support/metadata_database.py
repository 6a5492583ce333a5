"""A real PostgreSQL with Airflow's own tables, and the real exporter before it."""

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from support.statsd_exporter import free_ports

SCRIPT = Path(__file__).parents[2] / "charts/platform/files/scripts/database_exporter.py"


def _programs() -> Path | None:
    """Where PostgreSQL's server programs are: on PATH, or where Debian and Ubuntu keep them."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


class Server:
    """A PostgreSQL on a socket in a folder of its own, which can be stopped and started."""

    def __init__(self, programs: Path, folder: Path) -> None:
        """Make its files, and start it with one database, airflow."""
        # It refuses to run as root.
        self._user = pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None
        self.programs, self.folder = programs, folder
        if self._user:
            shutil.chown(folder, self._user)
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--no-instructions")
        options = "fsync = off\nmax_connections = 20\nlisten_addresses = ''\n"
        (folder / "data/postgresql.auto.conf").write_text(f"{options}unix_socket_directories = '{folder}'\n")
        self.start()
        with self.engine(database="postgres").connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CREATE DATABASE airflow"))
            # Less than what Airflow's own user may do.
            connection.execute(text("CREATE ROLE watcher LOGIN IN ROLE pg_read_all_data"))

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), "--pgdata", str(self.folder / "data"), *arguments]
        subprocess.run(command, user=self._user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._run("pg_ctl", "start", "--wait", "--log", str(self.folder / "log"))

    def stop(self) -> None:
        """Stop it, whoever is connected."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def url(self, user: str = "postgres", database: str = "airflow") -> str:
        """The URL with which SQLAlchemy connects to one of its databases as a user."""
        return f"postgresql+psycopg2://{user}@/{database}?host={self.folder}"

    def engine(self, user: str = "postgres", database: str = "airflow") -> Engine:
        """An engine that keeps no connection open."""
        return create_engine(self.url(user, database), poolclass=NullPool)


def make_tables(server: Server, database: str = "airflow") -> None:
    """Make the tables of the installed Airflow, as its own migration does for a new database."""
    import airflow.models
    from airflow.models.base import Base

    airflow.models.import_all_models()  # type: ignore[no-untyped-call]
    Base.metadata.create_all(server.engine(database=database))


@contextmanager
def running_server(*, tables: bool = True) -> Iterator[Server]:
    """A PostgreSQL, with Airflow's tables if they are wanted; skips where there is none on this machine."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine (Debian and Ubuntu: apt install postgresql)")
    # Not below pytest's own folder, which only its owner may enter; a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = Server(programs, folder)
    try:
        if tables:
            make_tables(server)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def insert(connection: Connection, table: str, **values: Any) -> None:
    """A row of one of Airflow's tables; what must not be null and is not given is empty."""
    from airflow.models.base import Base

    target = Base.metadata.tables[table]
    needed = [c for c in target.columns if not (c.nullable or c.default or c.server_default or c.primary_key)]
    connection.execute(target.insert().values({c.name: c.type.python_type() for c in needed} | values))


@dataclass(frozen=True)
class DatabaseExporter:
    """The running exporter.

    Attributes:
        address: Where it serves.
    """

    address: str

    def get(self, path: str) -> httpx.Response:
        """A page of it."""
        return httpx.get(f"{self.address}{path}", timeout=60)

    def scrape(self) -> dict[tuple[str, str], float]:
        """Every series of a scrape to its value; labels as text."""
        answer = self.get("/metrics")
        assert answer.status_code == 200, answer.text
        return {
            (name, labels or ""): float(value)
            for name, labels, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", answer.text, re.MULTILINE)
        }


@contextmanager
def running_database_exporter(url: str) -> Iterator[DatabaseExporter]:
    """The script as the Deployment runs it, on a port of its own."""
    (port,) = free_ports(1)
    environment = {"DATABASE_URL": url, "PORT": str(port), "PATH": os.environ["PATH"]}
    with subprocess.Popen([sys.executable, SCRIPT], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            exporter = DatabaseExporter(f"http://127.0.0.1:{port}")
            for _ in range(300):
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                try:
                    exporter.get("/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield exporter
        finally:
            process.kill()
