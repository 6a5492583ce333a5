"""Whole runs of the daily ingest on two days of the real data, with good and with broken rows."""

import datetime as dt
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from conftest import Source

DAG_ID = "flights_ingest_daily"
FIRST, SECOND = (dt.datetime(2013, 1, day, tzinfo=dt.UTC) for day in (1, 2))
TABLES = ("flights", "weather", "airports", "planes", "airlines")
Run = Callable[..., Any]


@pytest.fixture
def warehouse_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new SQLite warehouse."""
    path = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return path


def ask(path: Path, sql: str) -> list[Any]:
    """Rows of the warehouse, read past the library that is under test."""
    with sqlite3.connect(path) as database:
        return database.execute(sql).fetchall()


def content(path: Path) -> dict[str, list[Any]]:
    """All data rows of the warehouse."""
    return {table: sorted(ask(path, f"SELECT * FROM {table}"), key=str) for table in TABLES}  # noqa: S608


def states(run: Any) -> dict[str, str]:
    """State of each task of a run."""
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


def staged(storage: Path) -> list[Path]:
    """Files that are left in staging."""
    return [path for path in (storage / "staging").rglob("*") if path.is_file()]


def test_two_days_then_one_again(run_dag: Run, source: "Source", storage: Path, warehouse_file: Path) -> None:
    assert run_dag(DAG_ID, FIRST).state == "success"
    assert run_dag(DAG_ID, SECOND).state == "success"
    before = content(warehouse_file)
    assert {table: len(rows) for table, rows in before.items()} == {
        "flights": 842 + 943,
        "weather": 67 + 72,
        "airports": 1458,
        "planes": 3322,
        "airlines": 16,
    }
    cancelled = ask(warehouse_file, "SELECT COUNT(*) FROM flights WHERE dep_time IS NULL")
    assert cancelled == [(4 + 8,)]
    assert not staged(storage)

    run = run_dag(DAG_ID, SECOND)
    assert states(run) == dict.fromkeys(("extract_day", "check_quality", "load_day", "remove_staging"), "success")
    assert content(warehouse_file) == before
    ledger = ask(warehouse_file, "SELECT table_name, partition_key, run_id FROM load_ledger ORDER BY 1, 2")
    assert [(table, key) for table, key, _ in ledger if key == "all"] == [
        (table, "all") for table in sorted(TABLES[2:])
    ]
    by_key = {(table, key): run_id for table, key, run_id in ledger}
    assert by_key["flights", "2013-01-02"] == run.run_id
    assert by_key["flights", "2013-01-01"] != run.run_id
    assert by_key["airports", "all"] != run.run_id  # the file did not change


def test_broken_rows_are_set_aside_counted_and_kept_with_the_reason(
    run_dag: Run, source: "Source", storage: Path, warehouse_file: Path
) -> None:
    source.edit("flights.csv.zip", 2, lambda fields: [*fields[:3], "2599", *fields[4:]])
    source.edit("flights.csv.zip", 3, lambda fields: fields[:5])
    source.edit("flights.csv.zip", 5, lambda fields: [*fields[:9], "??", *fields[10:]])
    source.write("airlines.csv", [*source.lines("airlines.csv"), "ZZ,Zig Zag"])
    assert run_dag(DAG_ID, FIRST).state == "success"

    assert ask(warehouse_file, "SELECT COUNT(*) FROM flights") == [(839,)]
    assert ask(warehouse_file, "SELECT COUNT(*) FROM airlines") == [(17,)]
    ledger = "SELECT rows_loaded, rows_rejected, rejected_uri FROM load_ledger WHERE table_name = 'flights'"
    loaded, rejected, uri = ask(warehouse_file, ledger)[0]
    assert (loaded, rejected) == (839, 3)
    kept = [json.loads(line) for line in Path(uri.removeprefix("file://")).read_text().splitlines()]
    assert Path(uri.removeprefix("file://")).parent == storage / "rejected/flights/2013-01-01"
    assert [(row["line"], row["reasons"]) for row in kept] == [
        (2, ["range: dep_time is 2599, more than 2400"]),
        (3, ["well_formed: 5 fields, expected 19"]),
        (5, ["carrier_in_airlines: carrier '??' is not in airlines"]),
    ]
    failed = "SELECT check_name, observed FROM quality_results WHERE table_name = 'flights' AND passed = 0"
    assert {("range", 1.0), ("well_formed", 1.0), ("carrier_in_airlines", 1.0)} <= set(ask(warehouse_file, failed))


def test_a_refused_day_changes_nothing_is_not_retried_and_leaves_no_staging(
    run_dag: Run, source: "Source", storage: Path, warehouse_file: Path
) -> None:
    assert run_dag(DAG_ID, FIRST).state == "success"
    before = content(warehouse_file)
    ledger = ask(warehouse_file, "SELECT * FROM load_ledger")

    header, *rows = source.lines("flights.csv.zip")
    source.write("flights.csv.zip", [header, *(row.replace(",EWR,", ",???,") for row in rows)])
    run = run_dag(DAG_ID, FIRST)
    assert run.state == "failed"
    assert states(run) == {
        "extract_day": "success",
        "check_quality": "failed",
        "load_day": "upstream_failed",
        "remove_staging": "success",
    }
    assert {ti.task_id: ti.try_number for ti in run.get_task_instances()}["check_quality"] == 1
    assert content(warehouse_file) == before
    assert ask(warehouse_file, "SELECT * FROM load_ledger") == ledger
    refused = f"SELECT check_name FROM quality_results WHERE run_id = '{run.run_id}' AND passed = 0"  # noqa: S608
    assert ("rejected_share",) in ask(warehouse_file, refused)
    assert list((storage / "rejected/flights/2013-01-01").iterdir())
    assert not staged(storage)


def test_a_load_that_fails_leaves_no_staging_and_the_run_failed(
    run_dag: Run, source: "Source", storage: Path, warehouse_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from shared.loading import warehouse

    def refuse(*_: Any) -> None:
        raise AirflowFailException("the warehouse is full")

    monkeypatch.setattr(warehouse, "load", refuse)
    run = run_dag(DAG_ID, FIRST)
    assert run.state == "failed"
    assert states(run)["remove_staging"] == "success"
    assert not staged(storage)


def test_a_day_that_the_source_does_not_have_fails_with_that_reason(
    run_dag: Run, source: "Source", storage: Path, warehouse_file: Path
) -> None:
    run = run_dag(DAG_ID, dt.datetime(2013, 6, 1, tzinfo=dt.UTC))
    assert run.state == "failed"
    detail = ask(warehouse_file, "SELECT detail FROM quality_results WHERE check_name = 'not_empty' AND passed = 0")
    assert ("the source has no rows of this partition (flights.csv.zip)",) in detail


@pytest.fixture
def extract(load_dag: Callable[[str], "DAG"], monkeypatch: pytest.MonkeyPatch) -> Callable[[int], dict[str, Any]]:
    """Call the task `extract_day` as a try of this number does."""
    from types import SimpleNamespace

    dag = load_dag(DAG_ID)
    task = dag.get_task("extract_day").python_callable
    run = SimpleNamespace(run_id="r", partition_key="2013-01-01", logical_date=None)

    def call(try_number: int) -> dict[str, Any]:
        ti = SimpleNamespace(task_id="extract_day", map_index=-1, try_number=try_number)
        context = {"dag": dag, "run_id": "r", "dag_run": run, "ti": ti}
        monkeypatch.setitem(task.__globals__, "get_current_context", lambda: context)
        found: dict[str, Any] = task()
        return found

    return call


def test_an_extract_that_fails_takes_its_files_with_it(
    extract: Callable[[int], dict[str, Any]], source: "Source", storage: Path
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    (source.folder / "planes.csv").unlink()  # the last to be staged
    with pytest.raises(AirflowFailException, match=r"planes\.csv does not exist"):
        extract(1)
    assert not staged(storage)


def test_an_extract_that_ends_late_leaves_what_the_next_try_has_staged(
    extract: Callable[[int], dict[str, Any]], source: "Source", storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lost its heartbeat, so the next try began; then it is ended while that one is done."""
    from flights.library import ingest

    stage_day, second = ingest.stage_day, {}

    def stage_late(*arguments: Any) -> Any:
        stage_day(*arguments)
        monkeypatch.setattr(ingest, "stage_day", stage_day)
        second.update(extract(2))
        raise SystemExit("the task was ended from outside")

    monkeypatch.setattr(ingest, "stage_day", stage_late)
    with pytest.raises(SystemExit):
        extract(1)
    assert {item["uri"] for item in second.values()} == {path.as_uri() for path in staged(storage)}
    assert len(second) == len(TABLES)


def prepare(day: dt.date, folder: Path, run_id: str) -> Any:
    """Stage and check a day; what its load is given."""
    from airflow.sdk import ObjectStoragePath

    from flights.library.ingest import check_day, stage_day
    from flights.library.source import source_folder
    from shared.loading.warehouse import warehouse_hook

    place = ObjectStoragePath(folder.as_uri())
    return check_day(warehouse_hook(), stage_day(source_folder(), place, day), place, day, run_id, 0.01)


def test_a_run_that_read_the_reference_tables_earlier_and_ends_later_does_not_bring_them_back(
    source: "Source", storage: Path, warehouse_file: Path
) -> None:
    from flights.library.ingest import load_day
    from shared.loading.warehouse import warehouse_hook

    earlier = prepare(SECOND.date(), storage / "earlier", "earlier")
    source.write("airlines.csv", [*source.lines("airlines.csv"), "ZZ,Zig Zag"])
    later = prepare(FIRST.date(), storage / "later", "later")  # a backfill: an older day, read later
    assert set(load_day(warehouse_hook(), later, FIRST.date(), "later")) == set(TABLES)
    assert set(load_day(warehouse_hook(), earlier, SECOND.date(), "earlier")) == {"flights", "weather"}
    assert ask(warehouse_file, "SELECT COUNT(*) FROM airlines") == [(17,)]
    assert ask(warehouse_file, "SELECT COUNT(*) FROM flights") == [(842 + 943,)]


def test_whoever_clears_the_load_stages_and_checks_again(load_dag: Callable[[str], "DAG"]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(load_dag(DAG_ID)))
    cleared = dag.partial_subset("load_day", include_downstream=True, include_upstream=False)
    assert set(cleared.task_ids) == {"extract_day", "check_quality", "load_day", "remove_staging"}


def test_no_run_is_due_after_the_published_year_and_backfills_cover_whole_days(
    load_dag: Callable[[str], "DAG"],
) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(load_dag(DAG_ID)))
    assert dag.next_dagrun_info(last_automated_run_info=None) is None
    last = dt.datetime(2013, 1, 31, tzinfo=dt.UTC)
    keys = [info.partition_key for info in dag.iter_dagrun_infos_between(FIRST, last)]
    assert (len(keys), keys[0], keys[-1]) == (31, "2013-01-01", "2013-01-31")
