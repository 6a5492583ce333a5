"""`smoke`: run the canary DAG on an environment and check the worker pods that it ran in."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from airflow_client.client import ApiClient, DagRunApi, ImportErrorApi, TaskInstanceApi
from rich.live import Live
from rich.table import Table

from airflow_ops.cluster import airflow_api
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.cluster.pod_diagnosis import is_healthy, pod_evidence
from airflow_ops.console import counted, err, fail, out, table
from airflow_ops.environments.configuration import read_names
from airflow_ops.environments.environment import Environment
from airflow_ops.options import EnvironmentName, TrialOverlays
from airflow_ops.paths import DAGS
from airflow_ops.waiting import wait_until

CANARY = "platform_run_canary"
DAG_SECONDS = 180
"""From a push until a DAG can run: mirror, bundle refresh and parse take under a minute, a first parse longer."""
RUN_SECONDS = 600
LOG_LINES = 15
ENDED = {"success", "failed"}


@dataclass
class CanaryRun:
    """One run of the canary and the worker pods seen so far.

    Attributes:
        client: Client of the environment's Airflow.
        run_id: The run.
        pods: The worker pods by name, in the last state that was seen.
    """

    client: ApiClient
    run_id: str
    pods: dict[str, Any] = field(default_factory=dict)

    def state(self) -> str:
        """State of the run."""
        return str(DagRunApi(self.client).get_dag_run(CANARY, self.run_id).state.value)

    def tasks(self) -> list[Any]:
        """The task instances of the run."""
        return list(TaskInstanceApi(self.client).get_task_instances(CANARY, self.run_id, limit=100).task_instances)

    def record_pods(self, cluster: Cluster) -> None:
        """Record the present worker pods, because KubernetesExecutor deletes them once they are done."""
        selector = f"kubernetes_executor=True,dag_id={CANARY}"
        for pod in cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items:
            if (pod.metadata.annotations or {}).get("run_id") == self.run_id:
                self.pods[pod.metadata.name] = pod


def pods_without_template(pods: dict[str, Any], sizes: Collection[str]) -> list[str]:
    """The worker pods that are not made from a template of pod_templates/, a line each; empty if all are.

    Where the scheduler does not find a template, it only logs a warning and starts a bare pod.

    Args:
        pods: Pods by name.
        sizes: Names of the sizes.
    """
    lines = []
    for name, pod in pods.items():
        size = (pod.metadata.labels or {}).get("size")
        if size not in sizes:
            lines.append(f"pod {name} is of no known size: its label `size` is {size!r}, not one of {sorted(sizes)}")
        elif pod.spec.restart_policy != "Never" or not pod.spec.volumes:
            lines.append(f"pod {name} does not match pod_templates/{size}.yaml")
    return lines


def _wait_for_dag(client: ApiClient) -> None:
    if not wait_until(lambda: airflow_api.unpause(client, CANARY), DAG_SECONDS):
        errors = ImportErrorApi(client).get_import_errors(limit=5).import_errors
        lines = [f"{e.filename}: {(e.stack_trace or '').strip().splitlines()[-1]}" for e in errors]
        raise fail(
            f"{CANARY} is not there {DAG_SECONDS} s after the deploy. Import errors: {'; '.join(lines) or 'none'}.",
            "Check that it was pushed and that the Git mirror serves it: see the logs of DAG processor and Git mirror.",
        )


def run_canary(cluster: Cluster, client: ApiClient) -> CanaryRun:
    """Trigger the canary and wait until it has ended.

    Args:
        cluster: The environment.
        client: Client of its Airflow.

    Raises:
        ProblemError: It fails or does not end; failed tasks are shown with their pods' events and last log lines.
    """
    _wait_for_dag(client)
    run = CanaryRun(client, airflow_api.trigger(client, CANARY, note="smoke test"))
    with Live(console=err, transient=True, refresh_per_second=4) as live:

        def has_ended() -> bool:
            run.record_pods(cluster)
            if err.is_terminal:
                live.update(_table(run))
            return run.state() in ENDED

        wait_until(has_ended, RUN_SECONDS, 0.5)
    state = run.state()
    if state != "success":
        raise _failure(cluster, run, state)
    return run


def _table(run: CanaryRun) -> Table:
    rows = table(CANARY, "state", "try")
    for task in run.tasks():
        name = task.task_id if task.map_index < 0 else f"{task.task_id}[{task.map_index}]"
        rows.add_row(name, task.state.value if task.state else "-", str(task.try_number))
    return rows


def _failure(cluster: Cluster, run: CanaryRun, state: str) -> Exception:
    lines = []
    for task in run.tasks():
        if task.state is None or task.state.value in ("success", "skipped"):
            continue
        lines.append(f"task {task.task_id} is {task.state.value} after try {task.try_number}")
        if task.state.value in ("failed", "up_for_retry"):
            lines += [f"  {line}" for line in _log(run, task)]
    lines += [line for pod in run.pods.values() if not is_healthy(pod) for line in pod_evidence(cluster, pod)]
    return fail(
        f"the canary's run {run.run_id} is {state} after at most {RUN_SECONDS} s:\n" + "\n".join(lines),
        "The lines above are its failed tasks, their last log lines and their pods' events.",
    )


def _log(run: CanaryRun, task: Any) -> list[str]:
    answer = TaskInstanceApi(run.client).get_log(
        CANARY, run.run_id, task.task_id, max(task.try_number, 1), map_index=task.map_index, full_content=True
    )
    content = getattr(answer.content, "actual_instance", None) or []
    events = [getattr(item, "event", None) or str(item) for item in content]
    return [str(event) for event in events][-LOG_LINES:]


def check(cluster: Cluster) -> None:
    """Run the canary and check its pods; print a summary.

    Raises:
        ProblemError: The canary fails, or a worker pod is not made from a template of ours.
    """
    started = time.monotonic()
    with airflow_api.login(cluster) as client:
        run = run_canary(cluster, client)
        tasks = run.tasks()
    sizes = read_names(DAGS / "config/sizes.yaml")
    faults = pods_without_template(run.pods, sizes)
    if faults or not run.pods:
        raise fail(
            "; ".join(faults) or f"no worker pod was seen in {cluster.namespace} while the canary ran.",
            "Check that ConfigMap <release>-pod-templates is mounted in the scheduler at /opt/airflow/pod_templates.",
        )
    seconds = time.monotonic() - started
    out.print(
        f"smoke of {cluster.environment.name}: {counted(len(tasks), 'task')} of {CANARY} succeeded in {seconds:.0f} s, "
        f"{counted(len(run.pods), 'worker pod')}, each from a template of pod_templates/"
    )


def smoke(
    name: EnvironmentName,
    overlay: TrialOverlays = None,
) -> None:
    """Run the canary DAG on an environment; show what failed with the pod's events and last log lines.

    Example: airflow-ops smoke dev
    """
    check(connect(Environment.load(name, overlay)))
