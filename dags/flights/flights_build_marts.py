"""Build the daily marts of the flights: carriers and routes side by side, then origins from both."""

from datetime import timedelta

import pendulum
from airflow.sdk import dag

from flights.library import marts
from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.composing.task_groups import QualityRule, etl_group, share_without


@dag(
    schedule=None,
    start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=2),
    default_args=default_args("flights"),
    on_failure_callback=notify_run_failure,
    tags=["flights", "pattern"],
    doc_md="""
### Daily marts of the flights

**Partition:** a day in New York, `2013-01-15`, that `flights_ingest_daily` has loaded.

Three groups of the same shape, `extract` → `quality_check` → `transform` → `load` → `validate`: `carriers` and `routes`
side by side, then `origins`, which reads what both loaded. Tables: `flights_carrier_days`, `flights_route_days`,
`flights_origin_days`. Running a day again leaves the same rows.

**If `quality_check` fails** the day is not loaded, or not whole: run `flights_ingest_daily` for it. **If `validate`
fails** the mart does not count what the flights do: clear the group.
""",
)
def flights_build_marts() -> None:
    """Two groups, then one that depends on both."""
    carriers = etl_group(
        "carriers",
        source_sql=marts.CARRIERS_SQL,
        quality_rules=[
            QualityRule("carriers_there", len, 1),
            QualityRule("carriers_without_delay", share_without("mean_arr_delay"), 0.5, "<=", "warning"),
        ],
        transformations=[marts.with_cancelled_share],
        target=marts.CARRIER_DAYS,
        validation_queries={"other number of flights": marts.as_counted("flights_carrier_days")},
    )
    routes = etl_group(
        "routes",
        source_sql=marts.ROUTES_SQL,
        quality_rules=[QualityRule("routes_there", len, 1)],
        transformations=[marts.plain_numbers],
        target=marts.ROUTE_DAYS,
        validation_queries={"other number of flights": marts.as_counted("flights_route_days")},
    )
    origins = etl_group(
        "origins",
        source_sql=marts.ORIGINS_SQL,
        quality_rules=[QualityRule("all_origins", len, 3)],
        transformations=[marts.with_share],
        target=marts.ORIGIN_DAYS,
        validation_queries={
            "shares do not add up": "SELECT ABS(SUM(share) - 1) < 0.001 FROM flights_origin_days WHERE local_date = ?"
        },
    )
    [carriers, routes] >> origins


flights_build_marts()
