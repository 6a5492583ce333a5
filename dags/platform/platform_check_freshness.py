"""Is every scheduled DAG as fresh as was promised?"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources


@task(pool="api")
def check() -> None:
    """Compare, record, and fail if a promise is broken."""
    from shared.loading.warehouse import warehouse_hook
    from shared.watching import freshness, platform_api

    now = datetime.now(UTC)
    with platform_api.logged_in() as api:
        found = freshness.check(api, freshness.promises(), now)
    for one in found:
        print(one)
    freshness.record(warehouse_hook(), get_current_context()["run_id"], found, now)
    broken = [str(one) for one in found if one.state in ("late", "unknown")]
    if broken:
        raise AirflowFailException("; ".join(broken))


@dag(
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    # No retry: the next run comes in a quarter of an hour.
    default_args=default_args("platform", "quick", retries=0, executor_config=resources("small")),
    on_failure_callback=notify_run_failure,
    tags=["platform", "health", "pattern"],
)
def platform_check_freshness() -> None:
    """### Freshness: does every DAG keep its promise?

    Asks the REST API when the last run of each DAG of `dags/config/promises.yaml` succeeded. Results: rows of the
    warehouse table `dag_freshness`, kept for 90 days. Paused DAGs promise nothing.

    **If it fails** its error names the DAGs that are late, or that Airflow does not have: see their last runs.
    """
    check()


platform_check_freshness()
