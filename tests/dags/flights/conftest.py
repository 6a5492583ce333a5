"""A slice of the real source, and a warehouse of each kind."""

import json
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SLICE = ("2013,1,1,", "2013,1,2,")
"""Two days: 842 and 943 flights."""


@dataclass
class Source:
    """A folder with the published files, which a test may spoil."""

    folder: Path

    def lines(self, file: str) -> list[str]:
        """The lines of a file, the header first."""
        path = self.folder / file
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.read(archive.namelist()[0]).decode().splitlines()
        return path.read_text().splitlines()

    def write(self, file: str, lines: list[str]) -> None:
        """Replace a file."""
        path, text = self.folder / file, "\n".join(lines) + "\n"
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(path.stem, text)
        else:
            path.write_text(text)

    def edit(self, file: str, line: int, change: Callable[[list[str]], list[str]]) -> None:
        """Change the fields of one line; the header is line 1, as an editor counts."""
        lines = self.lines(file)
        lines[line - 1] = ",".join(change(lines[line - 1].split(",")))
        self.write(file, lines)


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of the published files."""
    from shared.flights_source import source_folder

    return Path(source_folder().path)


@pytest.fixture(scope="session")
def slice_of_source(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of the real flights and weather, and the reference tables whole."""
    source = Source(tmp_path_factory.mktemp("source"))
    for path in published.iterdir():
        shutil.copy(path, source.folder)
    for file, position in (("flights.csv.zip", 0), ("weather.csv", 1)):
        header, *rows = source.lines(file)
        kept = [row for row in rows if row.split(",", position)[position].startswith(SLICE)]
        source.write(file, [header, *kept])
    return source.folder


@pytest.fixture
def source(slice_of_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A copy of the slice that the DAGs of this test read."""
    copy = Source(tmp_path / "source")
    shutil.copytree(slice_of_source, copy.folder)
    monkeypatch.setenv("AIRFLOW_VAR_FLIGHTS_SOURCE_URI", copy.folder.as_uri())
    return copy


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
