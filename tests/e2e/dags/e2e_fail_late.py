"""An airflow dag of the e2e tests: fails, and not before its deadline."""

import asyncio
import time
from datetime import timedelta

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, dag, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources


@task
def fail() -> None:
    time.sleep(5)
    raise RuntimeError("the test asks for it")


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=20),
    default_args=default_args("platform", "quick", retries=0, executor_config=resources("small")),
    # The callback runs in the triggerer, which has no module of ours: something that does nothing.
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=AsyncCallback(asyncio.sleep, kwargs={"delay": 0}),
    ),
    tags=["platform"],
)
def e2e_fail_late() -> None:
    fail()


e2e_fail_late()
