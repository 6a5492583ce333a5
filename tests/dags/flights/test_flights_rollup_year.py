"""The year's rollup, run whole: its sums, the large XCom, and the lineage that it leaves."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from airflow.models.asset import AssetAliasModel, AssetEvent, AssetModel
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

if TYPE_CHECKING:
    from conftest import Source

DAG_ID = "flights_rollup_year"


def stored(run: DagRun, task_id: str) -> Any:
    """What the metadata database has of a task's result: the value, or where it lies."""
    with create_session() as session:
        mine = (XComModel.run_id == run.run_id, XComModel.task_id == task_id, XComModel.key == "return_value")
        return session.scalar(select(XComModel.value).where(XComModel.dag_id == DAG_ID, *mine))


def test_the_sums_are_those_of_the_source(run_dag: Callable[..., DagRun], source: "Source", storage: Path) -> None:
    run = run_dag(DAG_ID)

    assert run.state == "success"
    rows = pq.read_table(storage / "rollups/carrier_days/2013.parquet").to_pylist()
    flights = list(csv.DictReader(source.lines("flights.csv.zip")))
    counted = Counter((f"2013-01-{int(row['day']):02}", row["carrier"]) for row in flights)
    assert {(row["day"], row["carrier"]): row["flights"] for row in rows} == dict(counted)
    departed = [int(row["dep_delay"]) for row in flights if row["dep_time"] != "NA"]
    assert sum(row["cancelled"] for row in rows) == len(flights) - len(departed)
    assert sum(row["delayed"] for row in rows) == sum(delay >= 15 for delay in departed)
    assert sum(row["delay_minutes"] for row in rows) == sum(max(delay, 0) for delay in departed)
    assert stored(run, "sum_year") == rows, "a small value is in the database itself"


def test_a_large_result_lies_in_object_storage_and_reaches_the_next_task(
    run_dag: Callable[..., DagRun], source: "Source", storage: Path
) -> None:
    """Two days are repeated as a year of them."""
    header, *rows = source.lines("flights.csv.zip")
    days = [row.split(",", 3) for row in rows[::20]]
    copies = [f"2013,{month},{day},{rest}" for _, _, day, rest in days for month in range(1, 13)]
    more = [
        f"2013,{month},{day},{rest}" for _, _, _, rest in days[:30] for month in range(1, 13) for day in range(3, 28)
    ]
    source.write("flights.csv.zip", [header, *copies, *more])

    run = run_dag(DAG_ID)

    assert run.state == "success"
    path = stored(run, "sum_year").strip('"')
    assert path.startswith("file://")
    assert f"/xcom/{DAG_ID}/" in path
    large = Path(path.removeprefix("file://"))
    assert large.stat().st_size > 48_000
    written = pq.read_table(storage / "rollups/carrier_days/2013.parquet")
    assert sum(written["flights"].to_pylist()) == len(copies) + len(more)
    small = stored(run, "write_rollup")
    assert "rollups/carrier_days/2013.parquet" in small
    assert "/xcom/" not in small


def test_a_source_without_a_column_is_refused_before_it_is_read(
    run_dag: Callable[..., DagRun], source: "Source", storage: Path
) -> None:
    source.edit("flights.csv.zip", 1, lambda names: ["airline" if name == "carrier" else name for name in names])

    run = run_dag(DAG_ID)

    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states["wait_for_flights"] == "failed"
    assert states["sum_year"] == "upstream_failed"
    assert not (storage / "rollups").exists()


def test_what_is_no_json_is_refused(run_text: Callable[[str, str], DagRun]) -> None:
    """No pickle: what reads an XCom must not run what it reads."""
    run = run_text(
        "xcom_bad",
        "from airflow.sdk import dag, task\n\n@dag(schedule=None)\ndef xcom_bad():\n    @task\n    def give():\n"
        "        return lambda: 1\n    give()\n\nxcom_bad()\n",
    )
    assert run.state == "failed"


def test_the_written_file_is_an_asset_with_its_lineage(
    run_dag: Callable[..., DagRun], source: "Source", storage: Path
) -> None:
    run = run_dag(DAG_ID)

    with create_session() as session:
        event = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == run.run_id)).one()
        asset = session.get(AssetModel, event.asset_id)
        assert asset is not None
        assert (asset.name, event.source_task_id) == ("flights_carrier_days", "write_rollup")
        assert asset.uri == (storage / "rollups/carrier_days/2013.parquet").as_uri()
        assert {key: event.extra[key] for key in ("rows", "run")} == {"rows": 28, "run": run.run_id}
        alias = session.scalars(select(AssetAliasModel).where(AssetAliasModel.name == "flights_rollups")).one()
        assert asset.uri in {one.uri for one in alias.assets}


def test_a_file_without_flights_fails_without_a_retry(
    run_dag: Callable[..., DagRun], source: "Source", storage: Path
) -> None:
    source.write("flights.csv.zip", source.lines("flights.csv.zip")[:1])
    run = run_dag(DAG_ID)
    assert {ti.task_id: str(ti.state) for ti in run.get_task_instances()} == {
        "find_source": "success",
        "wait_for_flights": "success",
        "sum_year": "failed",
        "write_rollup": "upstream_failed",
    }
