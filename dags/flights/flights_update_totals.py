"""Keep the figures by day and carrier up with what is loaded."""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, Param, dag, get_current_context, task

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources


@dag(
    schedule="15 * * * *",
    start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=default_args("flights", executor_config=resources("small")),
    params={
        "since": Param(None, type=["null", "string"], format="date-time", description="Take changes from here on.")
    },
    on_failure_callback=notify_run_failure,
    tags=["flights", "pattern"],
    doc_md="""
### Figures by day and carrier, incrementally

Each run takes the days that were loaded since the last one (`load_ledger.loaded_at` above the mark `carrier_days` in
`high_water_marks`) and computes them again in the table `carrier_days`, all in one transaction with the mark. A day
that is loaded again is taken again, however old it is. Repeated, a run changes nothing.

**To repair** what was computed wrongly: trigger it with `since`, such as `2013-01-01T00:00:00+00:00`.
**If it fails** nothing has changed; the next run takes the same days.
""",
)
def flights_update_totals() -> None:
    """One task, because days and mark must change together."""

    @task(pool="warehouse", inlets=[Asset("flights_daily")], outlets=[Asset("carrier_days")])
    def update() -> dict[str, Any]:
        from flights.library.carrier_totals import update_carrier_days
        from shared.loading.warehouse import warehouse_hook

        taken = update_carrier_days(warehouse_hook(), get_current_context()["params"]["since"])
        print(f"{taken.rows} days loaded since {taken.since}; the mark is at {taken.until}")
        return taken._asdict()

    update()


flights_update_totals()
