"""What waits holds no worker pod: neither a task in the triggerer nor one that is rescheduled."""

from typing import Any

from airflow_client.client import TaskInstanceApi

from airflow_ops.cluster.connection import Cluster
from airflow_ops.paths import ROOT
from support.live_environment import Airflow, DagRepository, WorkerPods, wait_for

DAG = "e2e_wait_twice"
WAITING = {"deferred": "deferred", "rescheduled": "up_for_reschedule"}
"""The tasks of the DAG, and the state of each while it waits."""


def task_instance(airflow: Airflow, run: str, task: str) -> Any:
    return TaskInstanceApi(airflow.client).get_task_instance(DAG, run, task)


def pods_of(cluster: Cluster) -> list[str]:
    """The worker pods that exist for the DAG, whatever their phase."""
    selector = f"kubernetes_executor=True,dag_id={DAG}"
    return [
        pod.metadata.name for pod in cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items
    ]


def test_what_waits_holds_no_worker_pod(
    airflow: Airflow, cluster: Cluster, dag_repository: DagRepository, worker_pods: WorkerPods
) -> None:
    file = f"{DAG}.py"
    text = (ROOT / "tests/e2e/dags" / file).read_text()
    commit = dag_repository.push({f"dags/platform/{file}": text})
    wait_for("the DAG", lambda: airflow.serves(DAG, commit), 120)
    airflow.unpause(DAG)
    run = airflow.trigger(DAG)

    def both_wait_without_a_pod() -> bool:
        before = {task: airflow.task_state(DAG, run, task) for task in WAITING}
        pods = pods_of(cluster)
        after = {task: airflow.task_state(DAG, run, task) for task in WAITING}
        return before == after == WAITING and not pods

    wait_for("both tasks wait and have no pod", both_wait_without_a_pod, 120)
    in_triggerer = {task: task_instance(airflow, run, task) for task in WAITING}
    assert in_triggerer["deferred"].trigger is not None
    assert in_triggerer["rescheduled"].trigger is None
    wait_for("a triggerer takes it", lambda: task_instance(airflow, run, "deferred").triggerer_job, 30)

    assert airflow.wait_for_end(DAG, run) == "success"
    for task in WAITING:
        assert len(worker_pods.of_task(task)) >= 2, f"{task} left its first pod and came back in another"
