"""Tenants: each has a DAG of its own, and what is wrong with one stops no other."""

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from airflow_ops.paths import DAGS

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

    from conftest import Source

CONFIGS = sorted((DAGS / "flights/config/tenants").glob("*.yaml"))
ORIGINS = ("EWR", "JFK", "LGA")
DAY = dt.datetime(2013, 1, 2, tzinfo=dt.UTC)


def test_every_configuration_has_its_dag_file_and_all_these_files_are_alike() -> None:
    files = sorted((DAGS / "flights").glob("flights_slice_*.py"))
    assert [file.stem for file in files] == [config.stem for config in CONFIGS]
    assert len({file.read_text() for file in files}) == 1
    origins = [yaml.safe_load(config.read_text())["origin"] for config in CONFIGS]
    assert tuple(origins) == ORIGINS, "each tenant once"


def test_the_schema_for_editors_says_what_the_model_says() -> None:
    """An editor completes a tenant's keys by it. If this fails, write the model's `model_json_schema()` to the file."""
    import json

    from flights.library.tenants import SliceTenant

    schema = json.loads((DAGS / "flights/config/tenant.schema.json").read_text())
    assert schema == SliceTenant.model_json_schema()
    assert {config.read_text().splitlines()[0] for config in CONFIGS} == {
        "# yaml-language-server: $schema=../tenant.schema.json"
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the tenants' files and configurations, which a test may spoil."""
    (tmp_path / "flights").mkdir()
    for file in (DAGS / "flights").glob("flights_slice_*.py"):
        shutil.copy(file, tmp_path / "flights")
    shutil.copytree(DAGS / "flights/config/tenants", tmp_path / "flights/config/tenants")
    return tmp_path


BROKEN = {
    "unknown_key": (
        "owner: flights",
        "owner: flights\ncolour: red",
        r"colour: unknown key \(known here: max_active_runs, ",
    ),
    "missing_key": ("pool: reports", "", "pool: missing"),
    "wrong_type": (
        "max_active_runs: 4",
        "max_active_runs: many",
        "max_active_runs: expected a whole number, found",
    ),
    "unknown_table": (
        "[flights, weather]",
        "[flights, boats]",
        "tables.1: expected 'flights' or 'weather', found",
    ),
    "unknown_size": ("slice: small", "slice: huge", "sizes.slice: size 'huge' does not exist: use one of default,"),
    "cron": ('"0 5 * * *"', '"at noon"', "schedule: 'at noon' is not a cron expression"),
    "same_table": ("[flights, weather]", "[flights, flights]", "tables: .* names a table twice"),
    "no_airport": ("origin: JFK", "origin: jfk", "origin: String should match pattern"),
    "too_long": (
        "timeout_minutes: 180",
        "timeout_minutes: 1441",
        "timeout_minutes: expected less than or equal to",
    ),
    "yaml": ("owner: flights", "owner: [", "cannot be read as YAML"),
    "empty": (None, "", "the file: expected a map, found None"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_configuration_costs_its_own_dag_only(bundle: Path, case: str) -> None:
    """As Airflow shows it: one import error, of the tenant's file, that names configuration and key."""
    import re

    from airflow.dag_processing.dagbag import BundleDagBag

    old, new, reason = BROKEN[case]
    config = bundle / "flights/config/tenants/flights_slice_jfk.yaml"
    text = config.read_text()
    assert old is None or old in text
    config.write_text(text.replace(old, new) if old else new)

    bag = BundleDagBag(dag_folder=bundle, bundle_path=bundle, bundle_name="test")
    assert set(bag.dags) == {"flights_slice_ewr", "flights_slice_lga"}
    assert list(bag.import_errors) == ["flights/flights_slice_jfk.py"]
    assert re.search(
        rf"ValueError: \S*flights_slice_jfk\.yaml: {reason}", bag.import_errors["flights/flights_slice_jfk.py"]
    )


def test_in_airflows_database_too_the_other_tenants_stay(
    metadata_database: None, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason for a file each: Airflow marks every DAG of a file stale when the file has an import error."""
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    def sync() -> dict[str, tuple[bool, bool]]:
        bag = BundleDagBag(dag_folder=bundle, bundle_path=bundle, bundle_name="tenants")
        with create_session() as session:
            sync_bag_to_db(bag, "tenants", None, session=session)
        with create_session() as session:
            found = session.scalars(select(DagModel).where(DagModel.bundle_name == "tenants"))
            return {dag.dag_id: (bool(dag.has_import_errors), bool(dag.is_stale)) for dag in found}

    with create_session() as session:
        session.add(DagBundleModel(name="tenants"))
    assert set(sync().values()) == {(False, False)}
    (bundle / "flights/config/tenants/flights_slice_jfk.yaml").write_text("owner: nobody\n")
    assert sync() == {
        "flights_slice_ewr": (False, False),
        "flights_slice_jfk": (True, True),
        "flights_slice_lga": (False, False),
    }


def test_the_configuration_reaches_the_dag(bundle: Path) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag

    config = bundle / "flights/config/tenants/flights_slice_lga.yaml"
    changes = {
        "owner": "port",
        "pool": "warehouse",
        "max_active_runs": 2,
        "timeout_minutes": 7,
        "schedule": "1 2 * * *",
    }
    changed = {**yaml.safe_load(config.read_text()), **changes, "sizes": {"wait": "small", "slice": "large"}}
    config.write_text(yaml.safe_dump(changed))
    dag = BundleDagBag(dag_folder=bundle, bundle_path=bundle, bundle_name="test").dags["flights_slice_lga"]

    assert set(dag.task_ids) == {"choose_day", "wait_for_load", "slice_flights", "finish"}
    assert (dag.max_active_runs, dag.dagrun_timeout) == (2, dt.timedelta(minutes=7))
    piece, wait = dag.get_task("slice_flights"), dag.get_task("wait_for_load")
    assert (piece.owner, piece.pool, wait.pool) == ("port", "warehouse", "default_pool")
    assert piece.executor_config["pod_template_file"].endswith("/large.yaml")
    assert wait.executor_config["pod_template_file"].endswith("/small.yaml")
    assert "1 2 * * *" in repr(dag.timetable)


def read(storage: Path, origin: str, table: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(storage / f"tenants/{origin}/{table}/2013-01-02.parquet").to_pylist()
    return rows


def states(run: "DagRun") -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


def test_the_slices_of_all_tenants_are_the_day(
    run_dag: Callable[..., "DagRun"], source: "Source", storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import ObjectStoragePath

    from flights.library.ingest import check_day, load_day, stage_day
    from shared.loading.warehouse import warehouse_hook

    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "sqlite", "host": "{tmp_path}/tenants.db"}}')
    hook, folder = warehouse_hook(), ObjectStoragePath((storage / "stage").as_uri())
    staged = stage_day(ObjectStoragePath(source.folder.as_uri()), folder, DAY.date())
    load_day(hook, check_day(hook, staged, folder, DAY.date(), "run", 0.02), DAY.date(), "run")
    with __import__("sqlite3").connect(tmp_path / "tenants.db") as database:
        database.execute("DELETE FROM weather WHERE origin = 'JFK'")

    runs = [run_dag(f"flights_slice_{origin.lower()}", DAY) for origin in ORIGINS]
    assert [run.state for run in runs] == ["success"] * 3
    assert states(runs[1])["slice_weather"] == "skipped"
    assert states(runs[1])["finish"] == "success"
    flights = [row for origin in ORIGINS for row in read(storage, origin, "flights")]
    assert len(flights) == 943
    assert {row["origin"] for row in read(storage, "EWR", "flights")} == {"EWR"}
    assert len(read(storage, "EWR", "weather")) == 24
    assert not (storage / "tenants/LGA/weather").exists()
