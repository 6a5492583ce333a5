"""As the owner of the database: `before` makes what DAGs read; any other name, a run with a task that is deferred."""

import sys
from datetime import UTC, datetime

from airflow.models import DagRun, TaskInstance
from airflow.models.connection import Connection
from airflow.models.dagbag import DBDagBag
from airflow.models.trigger import Trigger
from airflow.models.variable import Variable
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from fires import Fire
from sqlalchemy import select

NAMES = sys.argv[1:]


def before(session):
    Variable.set("a_variable", "its value", session=session)
    session.add(Connection(conn_id="a_connection", conn_type="http", host="example.com", password="its password"))  # noqa: S106


def defer(session, number, name):
    dag = DBDagBag().get_latest_version_of_dag("everything", session=session)
    when = datetime(2026, 2, 1 + number, tzinfo=UTC)
    dag.create_dagrun(
        run_id=name, logical_date=when, run_after=when, data_interval=(when, when), run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST, state=DagRunState.RUNNING, session=session,
    )  # fmt: skip
    session.flush()
    trigger = Trigger.from_object(Fire(name))
    session.add(trigger)
    session.flush()
    task = "retried" if name == "retried" else "fires"
    ti = session.scalar(select(TaskInstance).where(TaskInstance.run_id == name, TaskInstance.task_id == task))
    ti.state, ti.trigger_id, ti.try_number, ti.start_date = TaskInstanceState.DEFERRED, trigger.id, 1, when
    ti.next_method, ti.next_kwargs, ti.executor_config = "execute_complete", {}, {"pod_override": "of the task"}


with create_session() as session:
    if NAMES == ["before"]:
        before(session)
    for number, name in enumerate(NAMES if NAMES != ["before"] else []):
        defer(session, number, name)
    assert session.scalars(select(DagRun.run_id)).all() == [name for name in NAMES if name != "before"]
