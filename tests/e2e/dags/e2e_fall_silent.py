"""An airflow dag of the e2e tests: its worker stops sending heartbeats, and its pod goes on."""

import os
import signal
import time
from datetime import timedelta

from airflow.sdk import dag, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources


@task
def fall_silent() -> None:
    # The parent is the supervisor, which sends them.
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(1200)


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=20),
    default_args=default_args("platform", "quick", retries=0, executor_config=resources("small")),
    tags=["platform"],
)
def e2e_fall_silent() -> None:
    fall_silent()


e2e_fall_silent()
