"""An airflow dag of the e2e tests: shows which version of this file its tasks run, and what a worker pod contains."""

import os
from datetime import timedelta

from airflow.sdk import dag, task

from shared.authoring.defaults import default_args
from shared.authoring.resources import resources

VERSION = "@VERSION@"
SIZES = ["small", "default", "scratch"]
SECRETS = [("core", "fernet_key"), ("api_auth", "jwt_secret"), ("api", "secret_key"), ("database", "sql_alchemy_conn")]


@task
def first() -> str:
    return VERSION


@task(pool="e2e_gate")
def second(before: str) -> str:
    return VERSION


@task
def look(size: str) -> dict[str, object]:
    from airflow.configuration import conf

    found = {f"{section}.{key}": str(conf.get(section, key, fallback="")) for section, key in SECRETS}
    return {"size": size, "environment": sorted(os.environ), "configuration": found}


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=30),
    default_args=default_args("platform", "quick"),
    tags=["platform"],
)
def e2e_show_version() -> None:
    second(first())
    for size in SIZES:
        look.override(task_id=f"look_{size}", executor_config=resources(size))(size)


e2e_show_version()
