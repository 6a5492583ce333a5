"""The dashboard of worker pods: do they start, do they fit, and whose tasks do they run."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row, TextBoxVariable

from airflow_ops.monitoring.dashboards.panels import Panel, Query, Watch, bars, events, graph, listing, page

WORKERS = 'and on (namespace, pod) kube_pod_info{priority_class="airflow-worker"}'
"""Limits a query to worker pods, which have this priority class; the rules do the same."""
HOURS = "sum by (dag_id) (increase(airflow_task_duration_sum{}[$__range])) / 3600"
TEAMS = "max by (dag_id, owner) (airflow_database_dag_info{})"


def dashboard() -> Dashboard:
    """The dashboard for whoever pays for the nodes."""
    board = page(
        "workers",
        "Airflow: worker pods and cost",
        "Do worker pods start, do they fit, and which teams and DAGs do they cost for?",
    )
    price = TextBoxVariable("price").label("Price of an hour of a worker pod")
    board.with_variable(price.default_value("0.05"))
    rows = {
        "Work, as Airflow counts it": _work(),
        "Pods, as kube-state-metrics sees them": _pods(),
        "Use, as the kubelet measures it": _use(),
    }
    for title, panels in rows.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


def _work() -> list[Panel]:
    return [
        graph(
            "Tasks that run in a pod",
            "Of all schedulers together.",
            "short",
            Query("sum(max_over_time(airflow_executor_running_tasks{}[2m]))", "running"),
        ),
        graph(
            "Pods that were asked for and given back",
            "A minute. Creation far above deletion for long: finished pods are not cleaned up.",
            "cpm",
            Query("60 * sum(rate(airflow_kubernetes_executor_pod_creation_status{}[$__rate_interval]))", "created"),
            Query("60 * sum(rate(airflow_kubernetes_executor_pod_deletion_status{}[$__rate_interval]))", "deleted"),
        ),
        graph(
            "Pods that were lost",
            "Within 30 minutes: deleted, evicted, out of memory before the task could say so, or never created.",
            "short",
            events("airflow_scheduler_tasks_killed_externally{}", "30m", "pod gone"),
            watch=Watch("AirflowTasksKilledExternally"),
        ),
        bars(
            "Hours of tasks",
            "By DAG, over the time shown, without the start of a pod. The longest bar is where saving begins.",
            "h",
            Query(f"topk(15, {HOURS})", "{{dag_id}}"),
        ),
        listing(
            "Cost of a team",
            "Over the time shown: hours of the tasks of its DAGs times the price above. The team is the DAG's owner.",
            "none",
            Query(f"sum by (owner) ($price * {HOURS} * on (dag_id) group_left (owner) {TEAMS})"),
            "cost",
        ),
        listing(
            "Cost of a DAG",
            "Over the time shown: hours of its tasks times the price above, which is one for every size of pod.",
            "none",
            Query(f"topk(50, $price * {HOURS})"),
            "cost",
        ),
    ]


def _pods() -> list[Panel]:
    return [
        graph(
            "Worker pods by phase",
            "Pending for minutes: no node has room, or an image cannot be pulled. The phase tells nothing of the task.",
            "short",
            Query(f"sum by (phase) (kube_pod_status_phase{{}} {WORKERS})", "{{phase}}"),
            watch=Watch(runbook="AirflowWorkerPending"),
            stacked=True,
        ),
        graph(
            "Worker pods that cannot start",
            "By reason. Nothing drawn is good.",
            "short",
            Query('count by (reason) (kube_pod_container_status_waiting_reason{container="base"} == 1)', "{{reason}}"),
            watch=Watch("AirflowWorkerStuck"),
        ),
        graph(
            "Worker pods out of memory or evicted",
            "As long as their pods are kept. Nothing drawn is good. Give the task a larger size.",
            "short",
            Query(
                'count(kube_pod_container_status_terminated_reason{container="base", reason="OOMKilled"} == 1)',
                "out of memory",
            ),
            Query(f'count(kube_pod_status_reason{{reason="Evicted"}} == 1 {WORKERS})', "evicted"),
            watch=Watch(runbook="AirflowWorkerOOMKilled"),
        ),
        bars(
            "Quota in use",
            "Now. Pods beyond it are refused, and their tasks wait.",
            "percentunit",
            Query(
                """max by (resource) (kube_resourcequota{type="used"})
                / (max by (resource) (kube_resourcequota{type="hard"}) > 0)""",
                "{{resource}}",
            ),
            watch=Watch("AirflowQuotaAlmostFull"),
        )
        .min(0)
        .max(1),
    ]


def _use() -> list[Panel]:
    request = 'kube_pod_container_resource_requests{container="base", resource="%s"}'
    return [
        graph(
            "CPU of worker pods",
            "Used far below requested: a smaller size would do, and the quota would hold more tasks.",
            "short",
            Query('sum(rate(container_cpu_usage_seconds_total{container="base"}[$__rate_interval]))', "used"),
            Query(f"sum({request % 'cpu'})", "requested"),
        ),
        graph(
            "Memory of worker pods",
            "Used near requested on a full node is where pods get killed.",
            "bytes",
            Query('sum(container_memory_working_set_bytes{container="base"})', "used"),
            Query(f"sum({request % 'memory'})", "requested"),
        ),
    ]
