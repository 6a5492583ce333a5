"""The workloads of an environment that read a Secret: replace their pods, and wait until the old ones are gone."""

from functools import partial
from typing import Any

from kubernetes import client

from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.pod_diagnosis import is_healthy, pod_evidence
from airflow_ops.cluster.secrets import named_secrets
from airflow_ops.console import err, fail
from airflow_ops.waiting import wait_until

ROLLOUT_SECONDS = 900
"""For each replaced pod: the autoscaler may have to add a node for the largest one."""
LOOK_SECONDS = 2
"""Between two looks at a workload whose pods are replaced."""


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


def annotation(secret: str) -> str:
    """Annotation of a pod template: the version of a Secret that its pods have at least.

    Long names are cut, because the name of an annotation has 63 characters at most. Two Secrets that share one are no
    harm: versions are not used twice in a cluster, so a pod is replaced once more than needed and never once too few.
    """
    return f"secret.airflow-platform.io/{secret[:63].rstrip('-.')}"


def restart_readers(cluster: Cluster, secret: str) -> None:
    """Replace the pods of every Deployment and StatefulSet that reads a Secret, and wait until no old pod is left.

    Where an earlier attempt has begun to replace them by pods with the Secret's present version, this only waits.

    Raises:
        ProblemError: The Secret does not exist, nothing reads it, or a new pod does not become ready; the old pods that
            are left keep running.
    """
    found = readers(cluster, secret)
    if not found:
        raise fail(
            f"no Deployment or StatefulSet of {cluster.namespace} reads Secret {secret}.",
            "Deploy the environment with the values of this checkout first.",
        )
    stored = cluster.stored_secret(secret)
    if stored is None:
        raise fail(
            f"Secret {secret} does not exist in {cluster.namespace}.",
            "Bring it back, then run this again: pods that start without it would wait for it.",
        )
    for workload in found:
        _replace_pods(cluster, workload, annotation(secret), stored.version)
    for workload in found:
        err.print(f"waiting for {reference(workload)}")
        _wait_for_rollout(cluster, workload)


def _call(cluster: Cluster, verb: str, workload: Any, *arguments: Any) -> Any:
    """Read or patch a workload by the method that the Kubernetes client has for its kind."""
    kind = "deployment" if isinstance(workload, client.V1Deployment) else "stateful_set"
    call = getattr(cluster.apps, f"{verb}_namespaced_{kind}")
    return call(workload.metadata.name, cluster.namespace, *arguments)


def _replace_pods(cluster: Cluster, workload: Any, key: str, version: str) -> None:
    """Have a workload replace its pods; where they were made for this version of the Secret, nothing changes.

    Not by the Secret's content: that can come back after pods have started with another one. A version cannot, and it
    tells nothing of the content to those who may read pods. Helm and Argo CD keep the annotation: they only change
    fields that they set themselves.
    """
    _call(cluster, "patch", workload, {"spec": {"template": {"metadata": {"annotations": {key: version}}}}})


def _updated(workload: Any) -> int:
    """How many pods of the present template there are; -1 while the status is about the template of before."""
    if (workload.status.observed_generation or 0) < workload.metadata.generation:
        return -1
    return workload.status.updated_replicas or 0


def is_replaced(workload: Any) -> bool:
    """Whether all pods are of the present template and ready. Ready ones alone do not tell: the old ones are, too."""
    status, wanted = workload.status, workload.spec.replicas
    return {_updated(workload), status.replicas or 0, status.available_replicas or 0} == {wanted}


def _wait_for_rollout(cluster: Cluster, workload: Any) -> None:
    """Wait until all pods are replaced, for each of them as long as one may take.

    Not by `kubectl rollout status`: it ends at once where an earlier attempt has met the Deployment's progress
    deadline, also when its cause is gone and the pods are about to become ready.
    """

    def moved(before: Any) -> Any:
        now = _call(cluster, "read", workload)
        return now if is_replaced(now) or _updated(now) > _updated(before) else None

    seen = _call(cluster, "read", workload)
    while not is_replaced(seen):
        seen = wait_until(partial(moved, seen), ROLLOUT_SECONDS, LOOK_SECONDS)
        if seen is None:
            raise _not_ready(cluster, workload)
    # A terminating pod still answers requests and still writes, with the Secret that it read at its start.
    if not wait_until(
        lambda: not any(pod.metadata.deletion_timestamp for pod in _pods(cluster, workload)), ROLLOUT_SECONDS
    ):
        raise fail(
            f"an old pod of {reference(workload)} does not end.",
            "Find out why with `kubectl describe`, then run the same command again.",
        )


def _pods(cluster: Cluster, workload: Any) -> list[Any]:
    selector = ",".join(f"{key}={text}" for key, text in workload.spec.selector.match_labels.items())
    return list(cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items)


def _not_ready(cluster: Cluster, workload: Any) -> Exception:
    """The error for a workload whose next pod does not become ready, with what its pods say."""
    seen = _call(cluster, "read", workload)
    unhealthy = [pod for pod in _pods(cluster, workload) if not is_healthy(pod)]
    return fail(
        "\n".join(
            [
                f"{reference(workload)} does not become ready with the changed Secret: {max(_updated(seen), 0)} of "
                f"{seen.spec.replicas} pods are new, and there was no other for {ROLLOUT_SECONDS} s.",
                *(line for pod in unhealthy for line in pod_evidence(cluster, pod)),
            ]
        ),
        "The steps before this one are recorded. Correct what the lines above say, and run the same command again: "
        "it waits for these pods and replaces none twice.",
    )
