"""Report on a month of flights, once all its days are loaded."""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import (
    Asset,
    MonthWindow,
    PartitionedAssetTimetable,
    RollupMapper,
    StartOfMonthMapper,
    TriggerRule,
    dag,
    get_current_context,
    task,
)

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure, notify_success
from shared.authoring.partitions import DAY
from shared.authoring.resources import resources


@dag(
    schedule=PartitionedAssetTimetable(
        assets=Asset("flights_daily"),
        default_partition_mapper=RollupMapper(
            upstream_mapper=StartOfMonthMapper(input_format=DAY), window=MonthWindow()
        ),
    ),
    start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    max_consecutive_failed_dag_runs=5,
    dagrun_timeout=timedelta(hours=2),
    default_args=default_args(owner="flights", executor_config=resources("small")),
    on_success_callback=notify_success,
    on_failure_callback=notify_run_failure,
    tags=["flights", "monthly"],
    doc_md="""
### Report on a month of flights

**Runs** when every day of a month is loaded (asset `flights_daily`, rolled up to the month).
**Partition:** a month, `2013-01`: the run's partition key, else the month of its logical date.

| Task | Does |
|---|---|
| `list_carriers` | asks the warehouse who flew |
| `summarise_carrier` | figures of one carrier, one task each, as many at once as the pool `reports` has slots |
| `summarise_month` | puts them together **whatever became of them**: a carrier whose task failed is named as missing |
| `write_report` | writes `reports/flights/<month>/index.html`, one file with its plots in it |
| `require_every_carrier` | fails the run if a carrier is missing; the report is there and says so |

Clear a failed `summarise_carrier` with its downstream tasks to complete the report.
""",
)
def flights_report_monthly() -> None:
    """Summarise the carriers of a month and write the report."""

    @task
    def list_carriers() -> list[dict[str, Any]]:
        from flights.library.report import carriers_of
        from shared.authoring.partitions import month_of
        from shared.loading.warehouse import warehouse_hook

        return carriers_of(warehouse_hook(), month_of(get_current_context()))

    @task(pool="reports", max_active_tis_per_dagrun=4, map_index_template="{{ carrier }}")
    def summarise_carrier(carrier: dict[str, Any]) -> dict[str, Any]:
        from flights.library import report as flights_report
        from shared.authoring.partitions import month_of
        from shared.loading.warehouse import warehouse_hook

        context = get_current_context()
        context["carrier"] = carrier["name"]
        return flights_report.summarise_carrier(warehouse_hook(), month_of(context), carrier)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def summarise_month(carriers: Any, summaries: Any) -> dict[str, Any]:
        from flights.library import report as flights_report
        from shared.authoring.partitions import month_of
        from shared.loading.warehouse import warehouse_hook

        month = month_of(get_current_context())
        return flights_report.summarise_month(warehouse_hook(), month, carriers, summaries)

    @task(executor_config=resources("default"))
    def write_report(summary: Any) -> str:
        from flights.library.page import render_report
        from shared.loading.staging import storage, write_text

        path = storage("reports", "flights", summary["month"], "index.html")
        write_text(render_report(summary, get_current_context()["run_id"]), path)
        return str(path)

    @task
    def require_every_carrier(summary: Any, report: str) -> None:
        from flights.library import report as flights_report

        flights_report.require_every_carrier(summary, report)

    carriers = list_carriers()
    summary = summarise_month(carriers, summarise_carrier.expand(carrier=carriers))
    require_every_carrier(summary, write_report(summary))


flights_report_monthly()
