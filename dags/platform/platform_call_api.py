"""Ask Airflow's own REST API which version runs and how its parts are."""

from datetime import timedelta
from typing import Any

from airflow.sdk import TriggerRule, dag, task

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources
from shared.calling.api_operator import RobustApiOperator
from shared.calling.circuit_breaker import CircuitBreaker

BREAKER = CircuitBreaker("airflow_api")


@task(trigger_rule=TriggerRule.NONE_FAILED)
def summarise(version: dict[str, Any], health: dict[str, Any]) -> str:
    parts = ", ".join(f"{name}: {(state or {}).get('status')}" for name, state in sorted(health.items()))
    text = f"Airflow {version['version']}; {parts}"
    print(text)
    return text


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    default_args=default_args("platform", "api", executor_config=resources("small")),
    on_failure_callback=notify_run_failure,
    tags=["platform", "pattern"],
)
def platform_call_api() -> None:
    """### Calls of an HTTP API that outlast its bad moments.

    Two requests through the connection `airflow_api`, behind one circuit breaker: what `RobustApiOperator` is for.

    **If it fails** the log of the task says which answer ended it. If it says that the circuit is open, the API
    failed five times in a row, for this DAG or another that names the same service: repair the API; the first
    run after `recovery_timeout` tries it again.
    """
    version = RobustApiOperator(
        task_id="fetch_version",
        conn_id="airflow_api",
        endpoint="/api/v2/version",
        response_schema={"type": "object", "properties": {"version": {"type": "string"}}, "required": ["version"]},
        fallback=True,
        circuit_breaker=BREAKER,
    )
    health = RobustApiOperator(
        task_id="fetch_health",
        conn_id="airflow_api",
        endpoint="/api/v2/monitor/health",
        circuit_breaker=BREAKER,
    )
    summarise(version.output, health.output)


platform_call_api()
