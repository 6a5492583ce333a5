"""An airflow dag of the e2e tests: every kind of task that an upgrade meets, with a row for its start and its end."""

import socket
import time
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, Variable, dag, get_current_context, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources
from shared.loading.warehouse import warehouse_hook

DEFERRED = timedelta(seconds=100)
INSERT = """
INSERT INTO e2e_ledger (dag_id, run_id, task_id, map_index, try_number, event, host)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


def record(event: str, context: Any = None) -> None:
    """Write a row into the warehouse, which is no part of Airflow."""
    ti = (context or get_current_context())["ti"]
    row = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number, event, socket.gethostname())
    warehouse_hook().run(INSERT, parameters=row)


@task
def run_long() -> None:
    """Ask the execution API every other second until it is told to end."""
    record("start")
    begun = time.monotonic()
    while Variable.get("e2e_upgrade_end", default="no") != "yes" and time.monotonic() - begun < 900:
        time.sleep(2)
    record("end")


@task
def fan_out(number: int) -> None:
    record("start")
    time.sleep(5)
    record("end")


@task(retries=1, retry_delay=timedelta(seconds=30))
def fail_first() -> None:
    record("start")
    if get_current_context()["ti"].try_number == 1:
        raise RuntimeError("the first try fails, as planned")
    record("end")


class WaitInTriggerer(BaseOperator):
    def execute(self, context: Any) -> None:
        record("start", context)
        self.defer(trigger=TimeDeltaTrigger(DEFERRED), method_name="resume")

    def resume(self, context: Any, event: Any) -> None:
        record("end", context)


@task
def tick() -> None:
    record("start")
    record("end")


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=30),
    default_args=default_args("platform", "quick", executor_config=resources("small"), retries=0),
    tags=["platform"],
)
def e2e_survive_upgrade() -> None:
    run_long.override(execution_timeout=timedelta(minutes=20))()
    fail_first()
    WaitInTriggerer(task_id="wait_in_triggerer")
    fan_out.expand(number=list(range(6)))
    TriggerDagRunOperator(task_id="trigger_tick", trigger_dag_id="e2e_tick")


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=30),
    default_args=default_args("platform", "quick", executor_config=resources("small"), retries=0),
    tags=["platform"],
)
def e2e_tick() -> None:
    tick()


e2e_survive_upgrade()
e2e_tick()
