"""A real Airflow for the tests of DAGs: its own home, a migrated SQLite database, this repository's bundle.

Airflow reads its configuration when it is first imported, so the home is made when pytest loads this file. Each pytest
process makes its own, which keeps pytest-xdist's workers apart without a lock.
"""

import atexit
import datetime as dt
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ops.environments.environment import Environment
from airflow_ops.paths import DAGS, PLUGINS
from support.flights_slice import published, slice_of_source, source
from support.rest_api import rest, served
from support.warehouses import postgres_server, storage, warehouse

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG


__all__ = ["postgres_server", "published", "rest", "served", "slice_of_source", "source", "storage", "warehouse"]
"""Fixtures from tests/support, for every test below this folder."""


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


@pytest.fixture
def run_dag(metadata_database: None, load_dag: Callable[[str], "DAG"]) -> Callable[..., "DagRun"]:
    """Run a whole DAG in this process: `run_dag("flights_ingest_daily", logical_date=...)` gives the run."""

    def run(dag_id: str, logical_date: dt.datetime | None = None, conf: dict[str, Any] | None = None) -> "DagRun":
        dag = load_dag(dag_id)
        dag.deadline = None  # Airflow 3.3.2 cannot `dag.test()` a DAG that has one
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
