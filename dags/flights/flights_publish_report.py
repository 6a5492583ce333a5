"""Publish a month's report once it is there and whole."""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import dag, get_current_context, task

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources
from shared.composing.waiting import ObjectSensor


@dag(
    schedule=None,
    start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=8),
    default_args=default_args("flights", executor_config=resources("small")),
    on_failure_callback=notify_run_failure,
    tags=["flights", "pattern"],
    doc_md="""
### Publish the report on a month

**Partition:** a month, `2013-01`, or any logical date in it.

`wait_for_report` waits in the triggerer, up to six hours, until `reports/flights/<month>/index.html` has at least a
kilobyte and has not changed for ten seconds. `publish` copies it to `published/flights/<month>.html`.

**If `wait_for_report` times out:** see why `flights_report_monthly` wrote no report, then clear it.
""",
)
def flights_publish_report() -> None:
    """Wait for the report and copy it."""

    @task
    def choose_month() -> str:
        from shared.authoring.partitions import MONTH, month_of

        return month_of(get_current_context()).strftime(MONTH)

    @task
    def publish(month: str, report: dict[str, Any]) -> str:
        from airflow.sdk import ObjectStoragePath

        from shared.loading.staging import storage, write_text

        path = storage("published", "flights", f"{month}.html")
        write_text(ObjectStoragePath(report["uri"]).read_text(), path)
        return str(path)

    month = choose_month()
    report = ObjectSensor(
        task_id="wait_for_report",
        uri="{{ var.value.object_storage_uri }}/reports/flights/{{ ti.xcom_pull('choose_month') }}/index.html",
        min_bytes=1024,
        stable_seconds=10,
    )
    month >> report
    publish(month, report.output)


flights_publish_report()
