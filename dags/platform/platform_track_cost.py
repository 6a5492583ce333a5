"""What the tasks of a day cost, by task, DAG and team."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronPartitionTimetable, dag, get_current_context, task

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.partitions import DAY
from shared.authoring.resources import resources


@task(pool="api", pool_slots=2, outlets=[Asset("task_costs")])
def add_up() -> int:
    """Read the day's task instances and put their costs into the warehouse."""
    from shared.authoring.partitions import day_of
    from shared.loading.warehouse import warehouse_hook
    from shared.watching import cost, platform_api

    day = day_of(get_current_context())
    with platform_api.logged_in() as api:
        costs = cost.costs_of_day(api, day)
    cost.record(warehouse_hook(), day, costs, cost.load_prices())
    return len(costs)


@task
def report(tasks: int) -> str:
    """Write the page."""
    from shared.authoring.partitions import day_of
    from shared.loading.staging import storage, write_text
    from shared.loading.warehouse import warehouse_hook
    from shared.watching import cost

    day = day_of(get_current_context())
    path = storage("reports", "cost", day.isoformat(), "index.html")
    write_text(cost.render(warehouse_hook(), day), path)
    print(f"{tasks} tasks in {path}")
    return str(path)


@dag(
    schedule=CronPartitionTimetable("0 1 * * *", timezone="UTC", run_offset=-1, key_format=DAY),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=default_args("platform", executor_config=resources("small")),
    on_failure_callback=notify_run_failure,
    tags=["platform", "daily", "pattern"],
)
def platform_track_cost() -> None:
    """### Cost of a day.

    **Partition:** a day in UTC that is over, `2026-01-15`. Each task instance that ended on it costs the requests of
    its size (`dags/config/sizes.yaml`) times its duration, every try, by `dags/config/prices.yaml`. Rows: the warehouse
    table `task_costs`; page: `reports/cost/<day>/index.html`. A day can be run again: its rows are replaced.

    **If `add_up` fails** the REST API or the warehouse did not answer: clear it.
    """
    report(add_up())  # type: ignore[arg-type]


platform_track_cost()
