"""The overview dashboard: objectives, alerts, and which part of Airflow to look at next."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from airflow_ops.monitoring.dashboards.objectives import Objective, load_objectives
from airflow_ops.monitoring.dashboards.panels import (
    LEAST,
    Limit,
    Panel,
    Query,
    Watch,
    bars,
    events,
    graph,
    listing,
    number,
    page,
)

MONTH = "30d"
"""The period of an error budget, the same as in the burn rates of slo.yaml."""


def dashboard() -> Dashboard:
    """The dashboard that an engineer on call opens first."""
    board = page(
        "overview",
        "Airflow: overview",
        "Does Airflow keep its objectives, is every part up, and which alert is firing?",
    )
    for panel in _objectives(load_objectives()):
        board.with_panel(panel)
    board.with_row(Row("What is wrong"))
    for panel in (_firing(), _burn(), _budget()):
        board.with_panel(panel)
    board.with_row(Row("What goes on"))
    for panel in (_heartbeats(), _tasks(), _queue()):
        board.with_panel(panel)
    return board


def _share(objective: str) -> str:
    return (
        f'1 - sum(avg_over_time(airflow:slo_errors:rate5m{{slo="{objective}"}}[$__range]))'
        f' / (sum(avg_over_time(airflow:slo_events:rate5m{{slo="{objective}"}}[$__range])) > 0)'
    )


def _kept(objective: Objective, title: str, description: str) -> Panel:
    goal = f"The objective is {objective.share:.1%} of {title.lower()}."
    limit = Limit(objective.share, low_is_bad=True)
    return number(
        title, f"{description} {goal}", "percentunit", Query(_share(objective.name)), watch=Watch(limit=limit)
    )


def _quantile(objective: Objective, metric: str) -> Query:
    return Query(f"histogram_quantile({objective.share}, sum by (le) (rate({metric}_bucket{{}}[$__range])))")


def _objectives(objectives: dict[str, Objective]) -> list[Panel]:
    wait, parse = objectives["queue-wait"], objectives["parse"]
    return [
        _kept(
            objectives["tasks"],
            "Tasks that end well",
            "Over the time shown. Below the objective: the DAGs that fail are on the page of DAGs and pools.",
        ),
        number(
            "Time between heartbeats",
            "Of all schedulers together, now. No value: no scheduler is running.",
            "s",
            Query("1 / sum(rate(airflow_scheduler_heartbeat{}[5m]))"),
            watch=Watch("AirflowSchedulerHeartbeatSlow"),
        ),
        number(
            "Tasks without heartbeat",
            "Running tasks that fell silent and were ended, over the time shown. The objective is none.",
            "short",
            events("airflow_task_instances_without_heartbeats_killed{}", "$__range"),
            watch=Watch("AirflowTasksWithoutHeartbeat"),
        ),
        number(
            f"Queue wait, P{wait.share * 100:g}",
            "Of the first task of scheduled runs, over the time shown. No value: no scheduled run began.",
            "s",
            _quantile(wait, "airflow_dagrun_first_task_start_delay"),
            watch=Watch(runbook="AirflowQueueWaitLong", limit=Limit(wait.seconds or LEAST)),
        ),
        number(
            f"Parse of a DAG file, P{parse.share * 100:g}",
            "Over the time shown. Above the objective: look for work at import, such as a query at the top of a file.",
            "s",
            _quantile(parse, "airflow_dag_processing_last_duration"),
            watch=Watch(limit=Limit(parse.seconds or LEAST)),
        ),
        number(
            "DAG files with import errors",
            "Now. Their DAGs stay as they were, or are missing.",
            "short",
            Query("max(airflow_dag_processing_import_errors{})"),
            watch=Watch("AirflowDagImportErrors"),
        ),
    ]


def _burn() -> Panel:
    return graph(
        "Burn rate of the error budgets, 1 h",
        "1 uses a month's budget up in a month. Above the line somebody is paged, if five minutes agree.",
        "none",
        Query("airflow:slo_burn:ratio1h{}", "{{slo}}"),
        watch=Watch("AirflowErrorBudgetBurnsFast"),
    )


def _firing() -> Panel:
    return listing(
        "Alerts that fire",
        "Empty is good. The runbook of an alert has its name.",
        "short",
        Query('sum by (alertname, severity, component) (ALERTS{alertstate="firing"})'),
        "series",
    )


def _budget() -> Panel:
    return (
        bars(
            f"Error budget left, of {MONTH}",
            "How much of what each objective allows is unused. At zero the objective is missed, whatever comes.",
            "percentunit",
            Query(
                f"""1 - avg_over_time(airflow:slo_errors:rate5m{{}}[{MONTH}])
            / (avg_over_time(airflow:slo_events:rate5m{{}}[{MONTH}]) > 0)
            / on (namespace, slo) group_left () airflow:slo_budget:ratio{{}}""",
                "{{slo}}",
            ),
            watch=Watch(limit=Limit(0, low_is_bad=True)),
        )
        .min(0)
        .max(1)
    )


def _heartbeats() -> Panel:
    kinds = {
        "scheduler": "airflow_scheduler_heartbeat{}",
        "DAG processor": "airflow_dag_processor_heartbeat{}",
        "triggerer": "airflow_triggerer_heartbeat{}",
    }
    return graph(
        "Heartbeats",
        "Of all replicas. A line that ends or falls to zero is a part that is away; the API server has no heartbeat.",
        "cpm",
        *(Query(f"60 * sum(rate({metric}[$__rate_interval]))", kind) for kind, metric in kinds.items()),
        watch=Watch(runbook="AirflowSchedulerDown"),
    )


def _tasks() -> Panel:
    return graph(
        "Tries of tasks that ended",
        "A minute. Failed ones beside none that succeed: the cause is Airflow's or the cluster's, not a DAG's.",
        "cpm",
        Query(
            '60 * sum by (state) (rate(airflow_ti_finish{state=~"success|failed|skipped"}[$__rate_interval]))',
            "{{state}}",
        ),
        stacked=True,
    )


def _queue() -> Panel:
    return graph(
        "Queued tasks",
        "Tasks that wait for a worker pod. It rises and does not fall: look at pods on the page of workers.",
        "short",
        Query("sum(max_over_time(airflow_executor_queued_tasks{}[2m]))", "queued"),
        watch=Watch("AirflowQueueDeep"),
    )
