"""An airflow dag of the e2e tests: holds the only slot of its pool until its pod is taken away."""

import time
from datetime import timedelta

from airflow.sdk import dag, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources


@task(pool="e2e_one_slot")
def hold() -> None:
    time.sleep(900)


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=20),
    default_args=default_args("platform", "quick", retries=0, executor_config=resources("small")),
    tags=["platform"],
)
def e2e_hold_slot() -> None:
    hold()


e2e_hold_slot()
