"""Load one day of flights and weather into the warehouse."""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, CronPartitionTimetable, dag, get_current_context, task

from flights.library.tables import LOCAL_TIMEZONE
from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.partitions import DAY
from shared.authoring.resources import resources


@dag(
    schedule=CronPartitionTimetable("0 0 * * *", timezone=LOCAL_TIMEZONE, run_offset=-1, key_format=DAY),
    start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
    end_date=pendulum.datetime(2014, 1, 1, tz="UTC"),  # the published year: no run is due after it
    catchup=False,
    max_active_runs=4,
    max_consecutive_failed_dag_runs=5,
    dagrun_timeout=timedelta(hours=2),
    default_args=default_args(owner="flights"),
    on_failure_callback=notify_run_failure,
    tags=["flights", "daily"],
    doc_md="""
### Flights and weather of one day

**Partition:** a day in New York, `2013-01-15`: the run's partition key, else its logical date.

| Task | Does | When repeated |
|---|---|---|
| `extract_day` | copies the day's rows to a folder of its try in object storage | writes the same rows |
| `check_quality` | reads them as what they should be; sets bad rows aside, with the reason | judges the same |
| `load_day` | replaces the day in the warehouse, in one transaction | leaves the same rows |
| `remove_staging` | deletes the run's folder, after success and after failure | nothing left to do |

**Bad rows** are kept in `rejected/<table>/<day>/<run>.jsonl` and counted in `load_ledger`. If their share is above
`max_rejected_share` (`dags/flights/config/environments/<environment>.yaml`), or a column is missing, or rows got lost,
the day is not loaded and `check_quality` fails without retries. All checks are in `quality_results`.

**Backfill:** as for any DAG, from first to last day. A day can be run again, or twice at once: the rows are those of
the run that read the source last, also of airports, planes and airlines, which are loaded whole where they changed.
A cancelled flight is a row without `dep_time`.

**Updates** the asset `flights_daily` for the day; when a month is complete, `flights_report_monthly` runs.
""",
)
def flights_ingest_daily() -> None:
    """Extract, check and load a day."""

    @task
    def extract_day() -> dict[str, Any]:
        from flights.library.ingest import stage_day
        from flights.library.source import source_folder
        from shared.authoring.partitions import day_of
        from shared.loading.staging import try_folder

        context = get_current_context()
        with try_folder(context) as folder:
            return stage_day(source_folder(), folder, day_of(context))

    @task
    def check_quality(staged: dict[str, Any]) -> dict[str, Any]:
        from flights.library.ingest import check_day
        from flights.library.settings import settings
        from shared.authoring.partitions import day_of
        from shared.loading.staging import try_folder
        from shared.loading.warehouse import warehouse_hook

        context = get_current_context()
        share = settings().max_rejected_share
        with try_folder(context) as folder:
            return check_day(warehouse_hook(), staged, folder, day_of(context), context["run_id"], share)

    @task(pool="warehouse", outlets=[Asset("flights_daily")])
    def load_day(checked: dict[str, Any]) -> dict[str, int]:
        from flights.library import ingest as flights_ingest
        from shared.authoring.partitions import day_of
        from shared.loading.warehouse import warehouse_hook

        context = get_current_context()
        return flights_ingest.load_day(warehouse_hook(), checked, day_of(context), context["run_id"])

    @task(executor_config=resources("small"))
    def remove_staging() -> None:
        from shared.loading.staging import remove, run_folder

        context = get_current_context()
        remove(run_folder(context["dag"].dag_id, context["run_id"]))

    staged = extract_day()
    checked = check_quality(staged)
    # Setups of the load: whoever clears the load alone gets its files staged and checked again.
    load_day(checked) >> remove_staging().as_teardown(setups=[staged.as_setup(), checked.as_setup()])


flights_ingest_daily()
