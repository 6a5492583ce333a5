"""A promise is kept or broken by what Airflow's own REST API says."""

import datetime as dt
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import update

from airflow_ops.paths import DAGS
from shared.watching.freshness import check, promises

TEXT = """
from airflow.sdk import dag, task

@dag(schedule=None)
def {0}():
    @task
    def run():
        pass
    run()

{0}()
"""


@pytest.fixture
def ended(run_text: Callable[[str, str], DagRun]) -> Callable[..., None]:
    """Let a DAG have one run of a state that ended some minutes ago."""

    def add(dag_id: str, state: str, minutes: float, paused: bool = False) -> None:
        run_id = run_text(dag_id, TEXT.format(dag_id)).run_id
        with create_session() as session:
            end = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)
            session.execute(update(DagRun).where(DagRun.run_id == run_id).values(state=state, end_date=end))
            session.execute(update(DagModel).where(DagModel.dag_id == dag_id).values(is_paused=paused))

    return add


def test_late_fresh_paused_failed_and_unknown(served: Any, ended: Callable[..., None]) -> None:
    ended("fresh_enough", "success", 5)
    ended("too_late", "success", 61)
    ended("never_well", "failed", 1)
    ended("on_leave", "success", 9999, paused=True)
    wanted = dict.fromkeys(("fresh_enough", "too_late", "never_well", "on_leave", "not_there"), 60.0)

    found = {one.dag_id: one for one in check(served, wanted, dt.datetime.now(dt.UTC))}

    assert {name: one.state for name, one in found.items()} == {
        "fresh_enough": "fresh",
        "too_late": "late",
        "never_well": "late",
        "on_leave": "paused",
        "not_there": "unknown",
    }
    assert found["too_late"].age_minutes == pytest.approx(61, abs=5)


def test_the_dag_records_all_and_fails_for_what_is_late(
    served: Any,
    ended: Callable[..., None],
    run_dag: Callable[..., DagRun],
    platform: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from shared.watching import freshness

    ended("sales_late", "success", 31)
    ended("sales_fresh", "success", 0)
    monkeypatch.delenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST")  # from here on this repository's DAGs
    monkeypatch.setattr(freshness, "promises", lambda: {"sales_late": 30.0, "sales_fresh": 30.0})

    run = run_dag("platform_check_freshness")

    assert run.state == "failed"
    printed = capfd.readouterr()
    assert "sales_late: late, last success 3" in printed.out + printed.err
    with sqlite3.connect(platform.warehouse) as database:
        rows = database.execute("SELECT dag_id, state FROM dag_freshness WHERE run_id = ?", (run.run_id,)).fetchall()
    assert sorted(rows) == [("sales_fresh", "fresh"), ("sales_late", "late")]
    monkeypatch.setattr(freshness, "promises", lambda: {"sales_fresh": 30.0})
    assert run_dag("platform_check_freshness").state == "success"


def test_every_scheduled_dag_has_a_promise_and_no_other(load_dag: Callable[[str], Any]) -> None:
    files = [file.stem for file in DAGS.glob("*/*.py") if file.parent.name not in ("shared", "config")]
    scheduled = {dag_id for dag_id in files if load_dag(dag_id).schedule is not None}
    assert set(promises()) == scheduled


@pytest.mark.parametrize("text", ["a: soon", "a: 0", "a: true", "[a]"])
def test_a_wrong_promise_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "promises.yaml"
    path.write_text(text)
    with pytest.raises(
        ValueError,
        match=r"promises.yaml: (a: expected (a number|greater than 0), found|the file: expected a map, found)",
    ):
        promises(path)
