"""The workloads of an environment that read a Secret: replace their pods, and wait until the old ones are gone."""

from typing import Any

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.pod_diagnosis import is_healthy, pod_evidence
from airflow_ops.cluster.secrets import named_secrets
from airflow_ops.console import ProblemError, err, fail
from airflow_ops.waiting import wait_until

ROLLOUT_SECONDS = 900
"""For each replaced pod: the autoscaler may have to add a node for the largest one."""
ANSWER_SECONDS = 60
"""For kubectl to say that its own time is up."""


def readers(cluster: Cluster, secret: str) -> list[Any]:
    """The Deployments and StatefulSets with replicas whose pods read a Secret, as the Kubernetes client gives them."""
    found = cluster.apps.list_namespaced_deployment(cluster.namespace).items
    found += cluster.apps.list_namespaced_stateful_set(cluster.namespace).items
    plain = cluster.core.api_client.sanitize_for_serialization
    return [
        each for each in found if each.spec.replicas != 0 and secret in named_secrets(plain(each.spec.template.spec))
    ]


def reference(workload: Any) -> str:
    """A Deployment or StatefulSet as kubectl names it."""
    return f"{type(workload).__name__.removeprefix('V1').lower()}/{workload.metadata.name}"


def restart_readers(cluster: Cluster, secret: str) -> None:
    """Restart every Deployment and StatefulSet that reads a Secret, and wait until no old pod is left.

    Raises:
        ProblemError: Nothing reads it, or a new pod does not become ready; the old pods that are left keep running.
    """
    found = readers(cluster, secret)
    if not found:
        raise fail(
            f"no Deployment or StatefulSet of {cluster.namespace} reads Secret {secret}.",
            "Deploy the environment with the values of this checkout first.",
        )
    # A restart writes an annotation, which Helm and Argo CD keep: they only change fields that they set themselves.
    _restart(cluster, *(reference(each) for each in found))
    for workload in found:
        err.print(f"waiting for {reference(workload)}")
        _wait_for_rollout(cluster, workload)


# kubectl refuses a second restart within the same second, and another rotation may just have made one.
@retry(retry=retry_if_exception_type(ProblemError), stop=stop_after_delay(30), wait=wait_fixed(2), reraise=True)
def _restart(cluster: Cluster, *names: str) -> None:
    cluster.kubectl("rollout", "restart", *names)


def _wait_for_rollout(cluster: Cluster, workload: Any) -> None:
    name = reference(workload)
    selector = ",".join(f"{key}={text}" for key, text in workload.spec.selector.match_labels.items())

    def pods() -> list[Any]:
        return list(cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items)

    try:
        arguments = ("rollout", "status", name, f"--timeout={ROLLOUT_SECONDS}s")
        cluster.kubectl(*arguments, seconds=ROLLOUT_SECONDS + ANSWER_SECONDS)
    except ProblemError as error:
        lines = [line for pod in pods() if not is_healthy(pod) for line in pod_evidence(cluster, pod)]
        raise fail(
            "\n".join([f"{name} does not become ready with the changed Secret: {error.message}", *lines]),
            "The steps before this one are recorded. Correct what the lines above say, and run the same command again.",
        ) from error
    # A terminating pod still answers requests and still writes, with the Secret that it read at its start.
    if not wait_until(lambda: not any(pod.metadata.deletion_timestamp for pod in pods()), ROLLOUT_SECONDS):
        raise fail(
            f"an old pod of {name} does not end.",
            "Find out why with `kubectl describe`, then run the same command again.",
        )
