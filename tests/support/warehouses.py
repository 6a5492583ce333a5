"""A warehouse of each kind, and an object storage, of a test's own; the fixtures are those of tests/dags."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An object storage of this test's own."""
    folder = tmp_path / "objects"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW_VAR_OBJECT_STORAGE_URI", folder.as_uri())
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A Postgres on a socket of its own; the folder of the socket."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "/none").parent]
    if not (binaries[-1] / "initdb").exists():
        pytest.skip("no PostgreSQL server programs (initdb, pg_ctl) on this machine")
    folder = Path(tempfile.mkdtemp(prefix="airflow-tests-pg-"))
    as_user = _unprivileged(folder)
    data, options = folder / "data", f"-k {folder} -c listen_addresses='' -c fsync=off"
    initdb = [str(binaries[-1] / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, **as_user)
    control = [str(binaries[-1] / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, **as_user)
    yield str(folder)
    subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **as_user)
    shutil.rmtree(folder)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Postgres refuses to run as root: then it runs as the user `postgres`."""
    import os
    import pwd

    if os.geteuid() != 0:
        return {}
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("Postgres does not run as root, and there is no user postgres on this machine")
    shutil.chown(folder, "postgres")
    return {"user": "postgres"}


@pytest.fixture(params=["sqlite", "postgres"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty warehouse of either kind behind the connection `warehouse`; the connection's JSON."""
    connection: dict[str, Any] = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
    if request.param == "postgres":
        import psycopg

        socket = request.getfixturevalue("postgres_server")
        name = f"t{abs(hash(request.node.nodeid))}"
        with psycopg.connect(host=socket, user="postgres", autocommit=True) as server:
            server.execute(f'CREATE DATABASE "{name}"')
        connection = {"conn_type": "postgres", "host": socket, "login": "postgres", "schema": name}
    text = json.dumps(connection)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", text)
    return text
