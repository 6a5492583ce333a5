"""Count a day's flights on the way that its volume and the platform's health allow."""

from datetime import timedelta

import pendulum
from airflow.sdk import TriggerRule, dag, get_current_context, task

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources

SIZES = {"small": "small", "medium": "default", "large": "large"}
"""Worker size by volume."""


@dag(
    schedule=None,
    start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=1),
    default_args=default_args("flights", executor_config=resources("small")),
    on_failure_callback=notify_run_failure,
    tags=["flights", "pattern"],
    doc_md="""
### Branches and how they join again

**Partition:** a day in New York, `2013-01-15`, that `flights_ingest_daily` has loaded.

| Task | Does |
|---|---|
| `choose_size` | one of `count_small`, `count_medium`, `count_large`, by the rows that the ledger has of the day |
| `choose_detail` | `count_by_carrier` unless it is business time in New York, or the platform is not well |
| `join` | runs if no branch failed and at least one ran: `none_failed_min_one_success` |

**If `choose_size` fails** the day is not loaded: run `flights_ingest_daily` for it.
""",
)
def flights_count_day() -> None:
    """Choose, count, join."""

    @task.branch
    def choose_size() -> str:
        from airflow.sdk.exceptions import AirflowFailException

        from shared.authoring.partitions import day_of
        from shared.composing.branches import by_volume
        from shared.loading.warehouse import query, warehouse_hook

        day = day_of(get_current_context()).isoformat()
        sql = "SELECT rows_loaded FROM load_ledger WHERE table_name = 'flights' AND partition_key = ?"
        loaded = query(warehouse_hook(), sql, [day])
        if not loaded:
            raise AirflowFailException(f"{day} is not loaded: run flights_ingest_daily for it.")
        return f"count_{by_volume(loaded[0]['rows_loaded'])}"

    @task.branch
    def choose_detail() -> str | None:
        from flights.library.tables import LOCAL_TIMEZONE
        from shared.composing.branches import by_health, by_time

        busy = by_time(get_current_context()["dag_run"].run_after, LOCAL_TIMEZONE) == "business"
        well = by_health("airflow_api", "/api/v2/monitor/health") == "healthy"
        return "count_by_carrier" if well and not busy else None

    @task
    def count(column: str) -> dict[str, int]:
        from shared.authoring.partitions import day_of
        from shared.loading.warehouse import query, warehouse_hook

        day = day_of(get_current_context()).isoformat()
        sql = f"SELECT {column} AS name, COUNT(*) AS n FROM flights WHERE local_date = ? GROUP BY {column}"  # noqa: S608
        found = {row["name"]: row["n"] for row in query(warehouse_hook(), sql, [day])}
        print(found)
        return found

    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def join() -> None:
        print("Counted.")

    sizes = [
        count.override(task_id=f"count_{volume}", executor_config=resources(size))("origin")
        for volume, size in SIZES.items()
    ]
    joined = join()
    choose_size() >> sizes >> joined
    choose_detail() >> count.override(task_id="count_by_carrier")("carrier") >> joined


flights_count_day()
