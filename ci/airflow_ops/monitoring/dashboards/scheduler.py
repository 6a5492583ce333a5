"""The dashboard of scheduler, executor, DAG processor and triggerer: which part of Airflow is slow."""

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from airflow_ops.monitoring.dashboards.panels import NO_WATCH, Panel, Query, Watch, events, graph, page


def dashboard() -> Dashboard:
    """The parts of Airflow in the order in which a task passes them."""
    board = page(
        "scheduler",
        "Airflow: scheduler and executor",
        "Where between parse and pod does a task wait, and which part is the cause?",
    )
    rows = {
        "Scheduler": _scheduler(),
        "Executor and worker pods": _executor(),
        "DAG processor": _processor(),
        "Triggerer": _triggerer(),
    }
    for title, panels in rows.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


def _quantiles(metric: str, *quantiles: float) -> list[Query]:
    return [
        Query(f"histogram_quantile({quantile}, sum by (le) (rate({metric}_bucket{{}}[30m])))", f"P{quantile * 100:g}")
        for quantile in quantiles
    ]


def _durations(
    title: str, description: str, metric: str, quantiles: tuple[float, ...], watch: Watch = NO_WATCH
) -> timeseries.Panel:
    """A graph of quantiles of a histogram in seconds; arguments as for `graph`."""
    return graph(title, description, "s", *_quantiles(metric, *quantiles), watch=watch)


def _summary(metric: str) -> Query:
    return Query(f'max by (quantile) ({metric}{{quantile=~"0.5|0.99"}})', "quantile {{quantile}}")


def _scheduler() -> list[Panel]:
    gap = Query("1 / sum(rate(airflow_scheduler_heartbeat{}[5m]))", "gap")
    loop = "airflow_scheduler_scheduler_loop_duration"
    return [
        graph(
            "Time between heartbeats",
            "Of all schedulers together; with two of them half of each one's. A gap in the line: none was running.",
            "s",
            gap,
            watch=Watch("AirflowSchedulerHeartbeatSlow"),
        ),
        graph(
            "A round of the scheduler",
            "The mean is what the alert looks at. A long round delays every task of every DAG.",
            "s",
            Query(f"sum(rate({loop}_sum{{}}[10m])) / sum(rate({loop}_count{{}}[10m]))", "mean"),
            *_quantiles(loop, 0.95),
            watch=Watch("AirflowSchedulerLoopSlow"),
        ),
        graph(
            "The critical section",
            "Only one scheduler at a time queues tasks. Long: the database is slow, or many tasks are looked at.",
            "s",
            _summary("airflow_scheduler_critical_section_duration"),
        ),
        graph(
            "Tasks that could run",
            "Executable ones are about to be queued; starving ones have no free slot in their pool.",
            "short",
            Query("max(max_over_time(airflow_scheduler_tasks_executable{}[2m]))", "executable"),
            Query("max(max_over_time(airflow_scheduler_tasks_starving{}[2m]))", "starving"),
            watch=Watch("AirflowPoolStarving"),
        ),
        graph(
            "Tasks that lost their scheduler or their worker",
            "Within 30 minutes. Adopted is harmless; the others lost a try: out of memory, evicted, deleted.",
            "short",
            events("airflow_scheduler_tasks_killed_externally{}", "30m", "pod gone"),
            events("airflow_task_instances_without_heartbeats_killed{}", "30m", "no heartbeat"),
            events("airflow_scheduler_orphaned_tasks_cleared{}", "30m", "orphan reset"),
            events("airflow_scheduler_orphaned_tasks_adopted{}", "30m", "orphan adopted"),
            watch=Watch("AirflowTasksKilledExternally"),
        ),
        graph(
            "DAG runs that are running",
            "As the scheduler counts them. A plateau: [core] max_active_runs, pools or parallelism hold it there.",
            "short",
            Query("max(max_over_time(airflow_scheduler_dagruns_running{}[2m]))", "running"),
        ),
    ]


def _executor() -> list[Panel]:
    creation = "airflow_kubernetes_executor_pod_creation"
    return [
        graph(
            "Queued tasks",
            "Tasks that wait for a worker pod.",
            "short",
            Query("sum(max_over_time(airflow_executor_queued_tasks{}[2m]))", "queued"),
            watch=Watch("AirflowQueueDeep"),
        ),
        graph(
            "Slots of the executor",
            "Open ones are what [core] parallelism leaves. None for long: raise it, if quota and nodes allow.",
            "short",
            Query("sum(max_over_time(airflow_executor_running_tasks{}[2m]))", "running"),
            Query("sum(max_over_time(airflow_executor_open_slots{}[2m]))", "open"),
            watch=Watch("AirflowExecutorFull"),
        ),
        _durations(
            "Wait of a run's first task",
            "From when the run was due to its first task running. Scheduled runs only.",
            "airflow_dagrun_first_task_start_delay",
            (0.5, 0.95),
            watch=Watch("AirflowQueueWaitLong"),
        ),
        _durations(
            "Time that tasks stay scheduled",
            "Before they are queued: time spent waiting for a slot of pool, DAG or executor, not for a pod.",
            "airflow_task_scheduled_duration",
            (0.5, 0.95),
        ),
        graph(
            "Worker pods that Kubernetes took or refused",
            "A minute, by the API's status: 200 is good, 403 a full quota or a policy, 409 and 429 a busy API server.",
            "cpm",
            Query(f"60 * sum by (status) (rate({creation}_status{{}}[$__rate_interval]))", "{{status}}"),
            watch=Watch("AirflowPodCreationFailing"),
        ),
        graph(
            "Time to create a worker pod",
            "The call alone, not the start of the pod. Long: the Kubernetes API is slow.",
            "s",
            _summary(creation),
        ),
    ]


def _processor() -> list[Panel]:
    waiting = Query("max(airflow_dag_processing_file_path_queue_size{})", "waiting")
    broken = Query("max(airflow_dag_processing_import_errors{})", "with import errors")
    return [
        _durations(
            "Parse of a DAG file",
            "Of all files together. The runbook finds the file.",
            "airflow_dag_processing_last_duration",
            (0.5, 0.95, 0.99),
            watch=Watch("AirflowDagParseSlow"),
        ),
        graph(
            "DAG files",
            "Waiting ones that only rise: parsing does not keep up with [dag_processor] min_file_process_interval.",
            "short",
            waiting,
            broken,
            watch=Watch("AirflowDagImportErrors"),
        ),
        graph(
            "DAGs",
            "A fall that nobody meant: a bundle that cannot be read, or an import error in a shared module.",
            "short",
            Query("max(airflow_dagbag_size{})", "DAGs"),
        ),
    ]


def _triggerer() -> list[Panel]:
    running = Query("max by (hostname) (airflow_triggers_running{})", "running on {{hostname}}")
    left = Query("max by (hostname) (airflow_triggerer_capacity_left{})", "left on {{hostname}}")
    return [
        graph(
            "Triggers",
            "Of each triggerer. None left: deferred tasks wait, so add a replica or raise [triggerer] capacity.",
            "short",
            running,
            left,
            watch=Watch("AirflowTriggererFull"),
        ),
        graph(
            "Blocked event loop",
            "Within ten minutes. A trigger that blocks delays all others of its triggerer; the log names it.",
            "short",
            events("airflow_triggers_blocked_main_thread{}", "10m", "blocked"),
            watch=Watch("AirflowTriggererBlocked"),
        ),
        graph(
            "Heartbeats of triggerers",
            "A minute. Fewer than usual: the event loop is busy.",
            "cpm",
            Query("60 * sum(rate(airflow_triggerer_heartbeat{}[$__rate_interval]))", "heartbeats"),
            watch=Watch(runbook="AirflowTriggererDown"),
        ),
    ]
