"""An airflow dag of the e2e tests: one task waits in the triggerer, one is rescheduled."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, get_current_context, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources

WAIT = timedelta(seconds=60)


class WaitInTriggerer(BaseOperator):
    def execute(self, context: Any) -> None:
        self.defer(trigger=TimeDeltaTrigger(WAIT), method_name="resume")

    def resume(self, context: Any, event: Any) -> str:
        return str(event)


@task.sensor(mode="reschedule", poke_interval=WAIT.total_seconds(), timeout=600)
def rescheduled() -> bool:
    return datetime.now(UTC) - get_current_context()["dag_run"].start_date > WAIT


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=15),
    default_args=default_args("platform", "quick", executor_config=resources("small")),
    tags=["platform"],
)
def e2e_wait_twice() -> None:
    WaitInTriggerer(task_id="deferred")
    rescheduled()


e2e_wait_twice()
