"""Sum up the year of flights by day and carrier, in bounded memory."""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, AssetAlias, Metadata, dag, get_current_context, task

from flights.library.settings import settings
from shared.authoring.deadlines import deadline
from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources
from shared.composing.limits import limits
from shared.composing.waiting import ObjectSensor

ROLLUPS = AssetAlias("flights_rollups")


@dag(
    schedule=None,
    start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=2,
    dagrun_timeout=timedelta(hours=2),
    deadline=deadline("flights_rollup_year", "flights", timedelta(minutes=30)),
    default_args=default_args("flights", executor_config=resources("small")),
    on_failure_callback=notify_run_failure,
    tags=["flights", "pattern"],
    doc_md="""
### The year by day and carrier

| Task | Does |
|---|---|
| `find_source` | says where the published file is |
| `wait_for_flights` | waits until it is there, and fails if it lacks a column that is summed up |
| `sum_year` | reads the published file, 10,000 flights at a time, and returns 5,000 or so sums |
| `write_rollup` | writes them to `rollups/carrier_days/<year>.parquet`; repeated, the same |

**Memory** does not grow with the file: a chunk and the sums. **Pool and priority** of `sum_year` follow from
`source_megabytes` in `dags/flights/config/environments/<environment>.yaml`. What it **returns** is larger than 48,000
bytes, so it goes through object storage and not through the metadata database. **Lineage:** `write_rollup` adds an
event of the file that it wrote to the asset alias `flights_rollups`.

**If `wait_for_flights` fails** the file lacks a column, which it names; **if it waits**, see the Airflow variable
`flights_source_uri`. **If `sum_year` fails** the file has no flights.
""",
)
def flights_rollup_year() -> None:
    """Wait for the file, sum up, then write."""

    @task
    def find_source() -> str:
        from flights.library.source import source_folder
        from flights.library.tables import FLIGHTS

        return str(source_folder() / FLIGHTS.file)

    @task(executor_config=resources("default"), **limits(settings().source_megabytes))
    def sum_year() -> list[Any]:
        from flights.library.rollup import carrier_days
        from flights.library.source import source_folder

        return list(carrier_days(source_folder()))

    @task(outlets=[ROLLUPS], max_active_tis_per_dag=1)
    def write_rollup(days: Any) -> Any:
        from flights.library.rollup import to_arrow
        from shared.loading.staging import storage, write_parquet

        path = storage("rollups", "carrier_days", f"{days[0]['day'][:4]}.parquet")
        write_parquet(to_arrow(days), path)
        written = {"rows": len(days), "run": get_current_context()["run_id"]}
        yield Metadata(Asset(name="flights_carrier_days", uri=str(path)), extra=written, alias=ROLLUPS)
        return str(path)

    flights = ObjectSensor(
        task_id="wait_for_flights",
        uri="{{ ti.xcom_pull('find_source') }}",
        columns=("year", "month", "day", "carrier", "dep_time", "dep_delay"),
    )
    sums = sum_year()
    find_source() >> flights >> sums
    write_rollup(sums)


flights_rollup_year()
