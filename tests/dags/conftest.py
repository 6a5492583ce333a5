"""A real Airflow for the tests of DAGs: its own home, a migrated SQLite database, this repository's bundle.

Airflow reads its configuration when it is first imported, so the home is made when pytest loads this file. Each pytest
process makes its own, which keeps pytest-xdist's workers apart without a lock.
"""

import atexit
import datetime as dt
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ops.environments.environment import Environment
from airflow_ops.paths import DAGS, PLUGINS

if TYPE_CHECKING:
    import httpx
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG


def _bundles(name: str, path: Path) -> str:
    """The setting `dag_bundle_config_list` for one local bundle."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return json.dumps([{"name": name, "classpath": local, "kwargs": {"path": str(path)}}])


def _make_home() -> Path:
    """An AIRFLOW_HOME whose airflow.cfg says all that differs from Airflow's defaults."""
    home = Path(tempfile.mkdtemp(prefix="airflow-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    values = Environment.load("dev").values["airflow"]["config"]
    (home / "airflow.cfg").write_text(
        f"""
[core]
dags_folder = {DAGS}
load_examples = False
plugins_folder = {PLUGINS}
executor = LocalExecutor
xcom_backend = {values["core"]["xcom_backend"]}
[common.io]
xcom_objectstorage_path = {home.as_uri()}/xcom
xcom_objectstorage_threshold = {values["common.io"]["xcom_objectstorage_threshold"]}
[database]
sql_alchemy_conn = sqlite:///{home}/airflow.db
[dag_processor]
dag_bundle_config_list = {_bundles("platform", DAGS)}
[logging]
base_log_folder = {home}/logs
"""
    )
    return home


# A shell that points at a running Airflow must not lend its database to a test.
for _name in list(os.environ):
    if _name.startswith(("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "AIRFLOW_CONFIG")):
        del os.environ[_name]
HOME = _make_home()
os.environ["AIRFLOW_HOME"] = str(HOME)


SIMPLE_AUTH = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"


@dataclass(frozen=True)
class Platform:
    """Where the DAGs of a test module find what they work on."""

    warehouse: Path
    object_storage: Path


@pytest.fixture(scope="module", autouse=True)
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """What an environment gives its DAGs: its name, a warehouse and an object storage; new for each module."""
    folder = tmp_path_factory.mktemp("platform")
    here = Platform(warehouse=folder / "warehouse.db", object_storage=folder / "objects")
    here.object_storage.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_ENV", "dev")
        patch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(here.warehouse)}))
        patch.setenv("AIRFLOW_VAR_OBJECT_STORAGE_URI", here.object_storage.as_uri())
        yield here


@pytest.fixture(scope="session")
def metadata_database() -> None:
    """Airflow's own database, migrated."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def load_dag() -> Callable[[str], "DAG"]:
    """Load one DAG by its id as the DAG processor does, with the bundle's root on the import path."""
    from airflow.dag_processing.dagbag import BundleDagBag

    def load(dag_id: str) -> "DAG":
        file = DAGS / dag_id.split("_")[0] / f"{dag_id}.py"
        bag = BundleDagBag(dag_folder=file, bundle_path=DAGS, bundle_name="platform")
        assert not bag.import_errors, bag.import_errors
        return bag.dags[dag_id]

    return load


@pytest.fixture(scope="session")
def run_dag(metadata_database: None, load_dag: Callable[[str], "DAG"]) -> Callable[..., "DagRun"]:
    """Run a whole DAG in this process: `run_dag("flights_ingest_daily", logical_date=...)` gives the run."""
    sleep = time.sleep

    def run(dag_id: str, logical_date: dt.datetime | None = None, conf: dict[str, Any] | None = None) -> "DagRun":
        dag = load_dag(dag_id)
        dag.deadline = None  # Airflow 3.3.2 cannot `dag.test()` a DAG that has one
        with pytest.MonkeyPatch.context() as patch:
            # After a failed task `dag.test()` waits a whole second for each state that follows from it.
            patch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
            return dag.test(logical_date=logical_date, run_conf=conf)

    return run


@pytest.fixture
def run_text(
    metadata_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], "DagRun"]:
    """Run a DAG that is given as the text of its file, for what no DAG of the bundle does: `run_text(dag_id, text)`."""
    from airflow.dag_processing.dagbag import BundleDagBag

    def run(dag_id: str, text: str) -> "DagRun":
        # Airflow runs only what it finds in a bundle.
        monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", _bundles("test", tmp_path))
        (tmp_path / f"{dag_id}.py").write_text(text)
        bag = BundleDagBag(dag_folder=tmp_path, bundle_path=tmp_path, bundle_name="test")
        assert not bag.import_errors, bag.import_errors
        return bag.dags[dag_id].test(logical_date=None)

    return run


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


@pytest.fixture(scope="session")
def rest(metadata_database: None) -> Iterator["httpx.Client"]:
    """A client of the API, logged in."""
    from fastapi.testclient import TestClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", SIMPLE_AUTH)
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret-of-the-test-that-is-long-enough-for-its-algorithm")
        from airflow.api_fastapi.app import create_app

        with TestClient(create_app(apps="core"), base_url="http://testserver") as client:
            token = client.get("/auth/token").json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield client


@pytest.fixture
def served(rest: "httpx.Client", monkeypatch: pytest.MonkeyPatch) -> "httpx.Client":
    """The API, as what the library's client reaches."""
    from contextlib import nullcontext

    from shared.watching import platform_api

    opened: Callable[[], Any] = lambda: nullcontext(rest)  # noqa: E731
    monkeypatch.setattr(platform_api, "logged_in", opened)
    return rest


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Status and text with which a server on this machine answers, behind the connection `airflow_api`."""
    answers: list[Any] = [200, '{"scheduler": {"status": "healthy"}}']

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers[0])
            self.end_headers()
            self.wfile.write(answers[1].encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", f"http://127.0.0.1:{server.server_port}")
    yield answers
    server.shutdown()
    server.server_close()
