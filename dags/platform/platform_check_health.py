"""The health of the platform, every five minutes, as a DAG sees it."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources


@task
def check() -> list[dict[str, Any]]:
    """Run all checks; what they find is the result, so an unhealthy part does not fail this task."""
    from shared.watching import health

    return [asdict(result) for result in health.run_checks(health.checks())]


@task(trigger_rule="all_done")
def record(found: list[dict[str, Any]] | None) -> None:
    """Show and store what was found, and fail if anything is unhealthy."""
    from shared.watching import health

    if found is None:
        raise AirflowFailException("The checks gave no result: see the log of the task `check`.")
    results = [health.CheckResult(**result) for result in found]
    print(health.table(results))
    unhealthy = [f"{result.name}: {result.detail}" for result in results if not result.healthy]
    try:
        health.record(get_current_context()["run_id"], results)
    except Exception as error:
        unhealthy.append(f"results not recorded: {type(error).__name__}: {error}")
    if unhealthy:
        raise AirflowFailException("; ".join(unhealthy))


@dag(
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=5),
    # No retry: the next run comes in five minutes, and a fault that heals in between is worth knowing.
    default_args=default_args("platform", "quick", retries=0, executor_config=resources("small")),
    is_paused_upon_creation=False,
    on_failure_callback=notify_run_failure,
    tags=["platform", "health", "critical"],
)
def platform_check_health() -> None:
    """### Health: is every part of the platform well?

    Asks the metadata database, scheduler, triggerer and DAG processor (through the REST API), the freshness of the
    bundle, the warehouse and the object storage. Each result becomes a row of the warehouse table `health_checks`,
    kept for 30 days.

    **If it fails** the task `record` names what is unhealthy, and its log has the table of all checks. Limits:
    `health` in `dags/config/environments/<environment>.yaml`. It cannot see a scheduler that is down, because then it
    does not run: the alerts watch that.
    """
    record(check())


platform_check_health()
