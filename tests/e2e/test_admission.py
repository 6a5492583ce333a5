"""What executor_config may not ask for: refused by the cluster, with its reason where a DAG's author looks."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow_client.client import EventLogApi, TaskInstanceApi
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.paths import ROOT
from support.admission_pods import BAD, GOOD, refused_for, requested
from support.live_environment import Airflow, DagRepository, ops, target, wait_for

DAG = "e2e_ask_for_more"
REASONS = {
    "ask_privileged": "privileged",
    "ask_foreign_image": "image docker.io/evil/miner:1 is not from an allowed repository",
    "ask_host_path": "hostPath",
    "ask_service_account": "service account airflow-blue-scheduler is not for tasks",
    "ask_metadata_secret": "reads a Secret that is not for tasks",
}
NOT_TRIED = {
    "bad-no-resources": "the namespace's LimitRange gives a container without resources some, before the policy looks",
    "bad-container-restart": "an older Kubernetes knows this field of init containers only, or drops it",
}
BY_KUBERNETES = {"bad-proc-mount": "Unmasked", "bad-runtime-class": 'RuntimeClass "other" not found'}
"""What Kubernetes itself refuses before it asks a policy."""


@pytest.fixture(scope="module")
def as_scheduler(cluster: Cluster) -> Any:
    """The Kubernetes API as the scheduler's service account sees it."""
    api = config.new_client_from_config(context=cluster.context)
    api.set_default_header("Impersonate-User", f"system:serviceaccount:{cluster.namespace}:airflow-blue-scheduler")
    return client.CoreV1Api(api)


@pytest.fixture(scope="module")
def template(cluster: Cluster) -> dict[str, Any]:
    data = cluster.core.read_namespaced_config_map("airflow-blue-pod-templates", cluster.namespace).data
    found: dict[str, Any] = yaml.safe_load(data["default.yaml"])
    return found


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_pod_is_taken(as_scheduler: Any, cluster: Cluster, template: dict[str, Any], path: Path) -> None:
    as_scheduler.create_namespaced_pod(cluster.namespace, requested(template, path.stem), dry_run="All")


@pytest.mark.parametrize("path", [p for p in BAD if p.stem not in NOT_TRIED], ids=lambda path: path.stem)
def test_a_bad_pod_is_refused(as_scheduler: Any, cluster: Cluster, template: dict[str, Any], path: Path) -> None:
    """Pod Security answers first where it refuses the same."""
    with pytest.raises(ApiException) as refused:
        as_scheduler.create_namespaced_pod(cluster.namespace, requested(template, path.stem), dry_run="All")
    message = json.loads(refused.value.body)["message"]
    expected = (refused_for(path.stem), BY_KUBERNETES.get(path.stem), 'violates PodSecurity "restricted')
    assert any(each in message for each in expected if each), message
    assert "exceeded quota" not in message, "the executor would try again, for minutes"


def test_tasks_that_fill_their_quota_leave_room_for_a_scheduler(
    as_scheduler: Any, cluster: Cluster, template: dict[str, Any]
) -> None:
    """Pods that no node has room for count too."""
    pod = requested(template, "good-plain")
    pod["spec"]["nodeSelector"] = {"no-such-node": "here"}
    pod["metadata"]["labels"]["e2e"] = "full"
    most = int(cluster.environment.values["platform"]["quota"]["tasks"]["pods"])

    def fill() -> None:
        for number in range(most + 1):
            named = {**pod, "metadata": {**pod["metadata"], "name": f"e2e-full-{number}"}}
            as_scheduler.create_namespaced_pod(cluster.namespace, named)

    try:
        with pytest.raises(ApiException, match="exceeded quota: airflow-tasks"):
            fill()
        before = set(scheduler_pods(cluster))
        for name in before:
            cluster.core.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=0)
        wait_for("another scheduler", lambda: len(set(scheduler_pods(cluster)) - before) == len(before), 60)
    finally:
        cluster.core.delete_collection_namespaced_pod(
            cluster.namespace, label_selector="e2e=full", grace_period_seconds=0
        )
    wait_for("a scheduler that is ready", lambda: ops("smoke", *target(cluster)).returncode == 0, 300)


def events(airflow: Airflow, run: str, task: str) -> str:
    found = EventLogApi(airflow.client).get_event_logs(dag_id=DAG, run_id=run, task_id=task).event_logs
    return "\n".join(str(each.extra) for each in found)


def scheduler_pods(cluster: Cluster) -> dict[str, int]:
    pods = cluster.core.list_namespaced_pod(cluster.namespace, label_selector="component=scheduler").items
    return {pod.metadata.name: sum(s.restart_count for s in pod.status.container_statuses or []) for pod in pods}


def test_a_task_that_asks_for_more_fails_at_once_and_the_rest_goes_on(
    airflow: Airflow, cluster: Cluster, dag_repository: DagRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    before = scheduler_pods(cluster)
    text = (ROOT / f"tests/e2e/dags/{DAG}.py").read_text()
    commit = dag_repository.push({f"dags/platform/{DAG}.py": text})
    wait_for("the DAG", lambda: airflow.serves(DAG, commit), 120)
    airflow.unpause(DAG)
    run, started = airflow.trigger(DAG), time.monotonic()
    wait_for("the refusals", lambda: all(airflow.task_state(DAG, run, t) == "failed" for t in REASONS), 180)
    with capsys.disabled():
        print(f"\nfrom the run's start to the last refusal: {time.monotonic() - started:.0f} s")
    assert airflow.wait_for_end(DAG, run) == "failed"
    assert airflow.task_state(DAG, run, "good") == "success"
    for task, reason in REASONS.items():
        assert reason in events(airflow, run, task), task
        assert TaskInstanceApi(airflow.client).get_task_instance(DAG, run, task).try_number <= 1
    later = airflow.trigger("platform_run_canary")
    assert airflow.wait_for_end("platform_run_canary", later) == "success"
    assert scheduler_pods(cluster) == before
