"""An airflow dag of the e2e tests: one task that works and one that is deferred while keys are changed under them."""

import time
from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseHook, BaseOperator, Variable, dag, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources

SECONDS = 180


@task(executor_config=resources("small"))
def work() -> dict[str, object]:
    """Ask the execution API every other second, for three minutes, and until it is asked to end."""
    begun, requests = time.monotonic(), 0
    while time.monotonic() - begun < SECONDS or Variable.get("e2e_rotation_end", default="no") != "yes":
        assert BaseHook.get_connection("e2e_rotation").password == "before the rotation"  # noqa: S105
        requests += 1
        time.sleep(2)
    return {"seconds": round(time.monotonic() - begun), "requests": requests}


class WaitInTriggerer(BaseOperator):
    """Deferred for three minutes."""

    def execute(self, context: Any) -> None:
        """Hand over to the triggerer."""
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=SECONDS)), method_name="resume")

    def resume(self, context: Any, event: Any) -> str:
        """The moment that the trigger fired with."""
        return str(event)


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=60),
    default_args=default_args("platform", "quick"),
    tags=["platform"],
)
def e2e_outlive_rotation() -> None:
    work.override(execution_timeout=timedelta(minutes=50))()
    WaitInTriggerer(task_id="deferred", executor_config=resources("small"), execution_timeout=timedelta(minutes=50))


e2e_outlive_rotation()
