"""A run that misses its deadline is reported by the triggerer, as Airflow's own code calls it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.models.deadline import Deadline
from airflow.utils.session import create_session
from sqlalchemy import select

from shared.authoring.notifications import teams

pytestmark = pytest.mark.usefixtures("production")

TEXT = """
from datetime import timedelta
from airflow.sdk import dag, task
from shared.authoring.deadlines import deadline

@dag(schedule=None, deadline=deadline("flights_be_late", "flights", timedelta(seconds=1)))
def flights_be_late():
    @task
    def run():
        pass
    run()

flights_be_late()
"""


@pytest.fixture
def late(rest: Any, tmp_path: Path) -> str:
    """A run of a DAG that has a deadline, as DAG processor and API server make them; its id."""
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel

    (tmp_path / "flights_be_late.py").write_text(TEXT)
    bag = BundleDagBag(dag_folder=tmp_path, bundle_path=tmp_path, bundle_name="deadlines")
    assert not bag.import_errors
    with create_session() as session:
        if session.scalar(select(DagBundleModel).where(DagBundleModel.name == "deadlines")) is None:
            session.add(DagBundleModel(name="deadlines"))
            session.flush()
        sync_bag_to_db(bag, "deadlines", None, session=session)
    answer = rest.post("/api/v2/dags/flights_be_late/dagRuns", json={"logical_date": None})
    assert answer.status_code == 200, answer.text
    run_id: str = answer.json()["dag_run_id"]
    return run_id


def missed(run_id: str) -> dict[str, Any]:
    """What the scheduler does with the deadline of a run that is over, and the triggerer after it: its last word."""
    with create_session() as session:
        mine = select(Deadline).join(DagRun, DagRun.id == Deadline.dagrun_id).where(DagRun.run_id == run_id)
        overdue = session.scalars(mine).one()
        assert overdue.deadline_time - datetime.now(UTC) < timedelta(seconds=1)
        overdue.handle_miss(session)
        session.flush()
        trigger = overdue.callback.trigger
        classpath, kwargs = trigger.classpath, trigger.kwargs

    from airflow._shared.module_loading import import_string

    async def events() -> list[Any]:
        return [event.payload async for event in import_string(classpath)(**kwargs).run()]

    last: dict[str, Any] = asyncio.run(events())[-1]
    return last


def test_a_missed_deadline_is_reported_by_the_triggerer(late: str, slack: list[dict[str, Any]]) -> None:
    assert missed(late) == {"state": "success", "body": f"sent to {teams()['flights'].slack_channel}"}

    (message,) = slack
    assert message["text"] == "DEADLINE MISSED flights_be_late"
    assert late in str(message["blocks"])
    assert "https://airflow.example/dags/flights_be_late|Runbook" in str(message["blocks"])


def test_without_slack_the_callback_says_so_and_does_not_fail(late: str) -> None:
    assert missed(late) == {"state": "success", "body": "logged: connection 'slack_default' does not exist"}


def test_the_callback_lies_where_the_triggerer_finds_it_and_not_in_the_bundle() -> None:
    from airflow_ops.paths import PLUGINS
    from shared.authoring.deadlines import CALLBACK

    module, _, function = CALLBACK.partition(".")
    assert f"async def {function}(" in (PLUGINS / f"{module}.py").read_text()
