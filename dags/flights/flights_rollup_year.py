"""Sum up the year of flights by day and carrier, in bounded memory."""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, AssetAlias, Metadata, dag, get_current_context, task

from shared.deadlines import deadline
from shared.defaults import default_args
from shared.environment import environment
from shared.limits import limits
from shared.notifications import notify_run_failure
from shared.resources import resources

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
| `sum_year` | reads the published file, 10,000 flights at a time, and returns 5,000 or so sums |
| `write_rollup` | writes them to `rollups/carrier_days/<year>.parquet`; repeated, the same |

**Memory** does not grow with the file: a chunk and the sums. **Pool and priority** of `sum_year` follow from
`flights.source_megabytes` in `dags/config/<environment>.yaml`. What it **returns** is larger than 48,000 bytes, so it
goes through object storage and not through the metadata database. **Lineage:** `write_rollup` adds an event of the
file that it wrote to the asset alias `flights_rollups`.

**If `sum_year` fails** the published file is not there or empty: see the Airflow variable `flights_source_uri`.
""",
)
def flights_rollup_year() -> None:
    """Sum up, then write."""

    @task(executor_config=resources("default"), **limits(environment().flights.source_megabytes))
    def sum_year() -> list[Any]:
        from shared.flights_rollup import carrier_days
        from shared.flights_source import source_folder

        return list(carrier_days(source_folder()))

    @task(outlets=[ROLLUPS], max_active_tis_per_dag=1)
    def write_rollup(days: Any) -> Any:
        from shared.flights_rollup import to_arrow
        from shared.staging import storage, write_parquet

        path = storage("rollups", "carrier_days", f"{days[0]['day'][:4]}.parquet")
        write_parquet(to_arrow(days), path)
        written = {"rows": len(days), "run": get_current_context()["run_id"]}
        yield Metadata(Asset(name="flights_carrier_days", uri=str(path)), extra=written, alias=ROLLUPS)
        return str(path)

    write_rollup(sum_year())


flights_rollup_year()
