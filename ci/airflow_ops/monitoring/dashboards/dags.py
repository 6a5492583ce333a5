"""DAGs and pools: which DAG fails, is late or slow, and which pool holds it up."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.dashboard import VariableOption

from airflow_ops.monitoring.dashboards.panels import (
    Panel,
    Query,
    Watch,
    bars,
    events,
    graph,
    number,
    page,
    rises,
    variable,
)

RUNS = "airflow_dagrun_duration"
CHOSEN = '{dag_id=~"$dag"}'
HEALTH = '{dag_id="platform_check_health"}'
CANARY = '{dag_id="platform_run_canary"}'


def dashboard() -> Dashboard:
    """The dashboard for owners of DAGs."""
    board = page("dags", "Airflow: DAGs and pools", "Which DAG fails, is late or slow, and does a pool hold it up?")
    every = VariableOption(text="All", value="$__all")
    dag = variable(
        "dag", "DAG", 'label_values({__name__=~"airflow_dagrun_duration_.+_count", namespace="$namespace"}, dag_id)'
    )
    board.with_variable(dag.multi(True).include_all(True).all_value(".*").current(every))
    rows = {"Runs": _runs(), "Tasks": _tasks(), "Pools": _pools(), "The platform's own DAGs": _own()}
    for title, panels in rows.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


def _runs() -> list[Panel]:
    failed = rises(f"{RUNS}_failed_count{CHOSEN}", "1h")
    return [
        graph(
            "Runs that failed, 1 h",
            "By DAG. Nothing drawn: no run of these DAGs has failed since the exporter began.",
            "short",
            Query(f"sum by (dag_id) ({failed})", "{{dag_id}}"),
        ),
        graph(
            "Runs that succeeded, 1 h",
            "By DAG. A scheduled DAG whose line ends has stopped: paused, or no longer in its bundle.",
            "short",
            Query(f'sum by (dag_id) (increase({RUNS}_success_count{{dag_id=~"$dag"}}[1h]))', "{{dag_id}}"),
        ),
        graph(
            "Length of a successful run, P95",
            "By DAG, of the last six hours, in the exporter's steps: a jump is real, a small change is not.",
            "s",
            Query(
                f'histogram_quantile(0.95, sum by (dag_id, le) (rate({RUNS}_success_bucket{{dag_id=~"$dag"}}[6h])))',
                "{{dag_id}}",
            ),
        ),
        graph(
            "Deadlines missed, 1 h",
            "By DAG: runs that are later than the DAG promises. Nothing drawn: none ever was.",
            "short",
            Query(
                f"sum by (dag_id) ({rises(f'airflow_deadline_alerts_deadline_missed{CHOSEN}', '1h')})",
                "{{dag_id}}",
            ),
            watch=Watch("AirflowDeadlineMissed"),
        ),
        graph(
            "Delay of scheduled runs",
            "From when a run was due to its start, of all DAGs. It grows: the scheduler or max_active_runs holds back.",
            "s",
            Query("histogram_quantile(0.5, sum by (le) (rate(airflow_dagrun_schedule_delay_bucket{}[30m])))", "P50"),
            Query("histogram_quantile(0.95, sum by (le) (rate(airflow_dagrun_schedule_delay_bucket{}[30m])))", "P95"),
        ),
    ]


def _tasks() -> list[Panel]:
    return [
        graph(
            "Tries that failed, 1 h",
            "By DAG. Tries, not tasks: a task that fails twice before it succeeds counts two.",
            "short",
            Query(f"sum by (dag_id) ({rises(f'airflow_ti_failures{CHOSEN}', '1h')})", "{{dag_id}}"),
            watch=Watch("AirflowTaskFailures"),
        ),
        graph(
            "Length of a task, mean",
            "By DAG, of the last hour: what grows slowly here becomes a missed deadline.",
            "s",
            Query(
                """sum by (dag_id) (rate(airflow_task_duration_sum{dag_id=~"$dag"}[1h]))
                / (sum by (dag_id) (rate(airflow_task_duration_count{dag_id=~"$dag"}[1h])) > 0)""",
                "{{dag_id}}",
            ),
        ),
        graph(
            "Tasks that ended well, a minute",
            "By DAG: what keeps the workers busy.",
            "cpm",
            Query('60 * sum by (dag_id) (rate(airflow_ti_successes{dag_id=~"$dag"}[10m]))', "{{dag_id}}"),
            stacked=True,
        ),
    ]


def _pool(state: str) -> str:
    return f"max by (pool_name) (airflow_pool_{state}_slots{{}})"


def _pools() -> list[Panel]:
    whole = " + ".join(_pool(state) for state in ("running", "open", "queued", "deferred"))
    return [
        bars(
            "Pools in use",
            "Now. A pool without a limit shows next to nothing.",
            "percentunit",
            Query(f"{_pool('running')} / ({whole})", "{{pool_name}}"),
            watch=Watch("AirflowPoolFull"),
        )
        .min(0)
        .max(1),
        graph(
            "Slots that run",
            "By pool. Flat at its size: the pool is the bottleneck.",
            "short",
            Query(_pool("running"), "{{pool_name}}"),
        ),
        graph(
            "Tasks that wait for a slot",
            "By pool: ready in all but a free slot.",
            "short",
            Query('max by (pool_name) (airflow_pool_starving_tasks{pool_name!=""})', "{{pool_name}}"),
            watch=Watch("AirflowPoolStarving"),
        ),
    ]


def _own() -> list[Panel]:
    return [
        number(
            "Health checks that ended, 1 h",
            "Of platform_check_health, which runs every five minutes. None: it is paused, or nothing runs.",
            "short",
            Query(f"sum(increase({RUNS}_success_count{HEALTH}[1h]))"),
            watch=Watch(runbook="AirflowHealthCheckMissing"),
        ),
        number(
            "Health checks that failed, 20 min",
            "Warehouse, bucket or API did not answer; the log of the run says which.",
            "short",
            events(f"{RUNS}_failed_count{HEALTH}", "20m"),
            watch=Watch("AirflowHealthCheckFailed"),
        ),
        number(
            "Canaries that failed, 1 h",
            "Started by smoke tests and upgrades. A failed one means that a worker pod of some size does not work.",
            "short",
            events(f"{RUNS}_failed_count{CANARY}", "1h"),
            watch=Watch("AirflowCanaryFailed"),
        ),
    ]
