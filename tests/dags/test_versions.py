"""Which code a run uses when its DAG changes: Airflow's own scheduler models and REST API, with a versioned bundle.

The pods that then run that code are seen on a cluster: tests/e2e/test_workers.py.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select, update

from airflow_ops.dags.rules import check_id

DAG_ID = "platform_show_version"
BUNDLE = "versioned"
TEXT = """
from airflow.sdk import dag, task

@dag(schedule=None)
def platform_show_version():
    @task
    def first():
        pass
    @task
    def {second}():
        pass
    first() >> {second}()

platform_show_version()
"""
Commit = Callable[[str, str], None]


@pytest.fixture
def commit(metadata_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commit:
    """Let the DAG processor find the DAG at a commit, with a second task of a name."""
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")  # a test does not wait 30 s
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel

    def sync(version: str, second: str) -> None:
        folder = tmp_path / version
        folder.mkdir()
        (folder / f"{DAG_ID}.py").write_text(TEXT.format(second=second))
        bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name=BUNDLE)
        assert not bag.import_errors
        with create_session() as session:
            if session.scalar(select(DagBundleModel).where(DagBundleModel.name == BUNDLE)) is None:
                session.add(DagBundleModel(name=BUNDLE))
                session.flush()
            sync_bag_to_db(bag, BUNDLE, version, session=session)
            session.execute(update(DagBundleModel).where(DagBundleModel.name == BUNDLE).values(version=version))

    return sync


def trigger(rest: Any) -> str:
    answer = rest.post(f"/api/v2/dags/{DAG_ID}/dagRuns", json={"logical_date": None})
    assert answer.status_code == 200, answer.text
    run_id: str = answer.json()["dag_run_id"]
    return run_id


def code_of(run_id: str) -> tuple[str | None, set[str]]:
    """The commit of a run, and its tasks."""
    with create_session() as session:
        version = session.scalar(select(DagRun.bundle_version).where(DagRun.run_id == run_id))
        tasks = session.scalars(select(TaskInstance.task_id).where(TaskInstance.run_id == run_id))
        return version, set(tasks)


def test_a_change_reaches_new_runs_and_a_rerun_only_if_it_is_wished(rest: Any, commit: Commit) -> None:
    commit("c1", "second")
    run_id = trigger(rest)
    assert code_of(run_id) == ("c1", {"first", "second"})

    commit("c2", "other")
    assert code_of(run_id)[0] == "c1", "a change while a run goes on is not its change"
    assert code_of(trigger(rest)) == ("c2", {"first", "other"})

    with create_session() as session:
        ended = {"state": "success"}
        session.execute(update(TaskInstance).where(TaskInstance.run_id == run_id).values(**ended))
        session.execute(update(DagRun).where(DagRun.run_id == run_id).values(**ended))
    clear = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/clear"

    assert rest.post(clear, json={"dry_run": False}).status_code == 200
    assert code_of(run_id)[0] == "c1", "cleared: the original code"

    assert rest.post(clear, json={"dry_run": False, "run_on_latest_version": True}).status_code == 200
    assert code_of(run_id)[0] == "c2", "cleared with the wish for the newest"


@pytest.mark.parametrize(
    ("dag_id", "fits"),
    [
        ("finance_generate_monthly_report_v2", True),
        ("finance_sync_orders", True),
        ("finance_report", False),
        ("finance_generate_report_V2", False),
        ("finance_generate_report_", False),
    ],
)
def test_the_name_says_domain_action_target_and_perhaps_a_version(dag_id: str, fits: bool) -> None:
    assert (check_id(SimpleNamespace(dag_id=dag_id), Path(f"finance/{dag_id}.py"), None) is None) is fits  # type: ignore[arg-type]
