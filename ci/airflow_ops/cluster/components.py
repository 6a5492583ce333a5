"""Stop everything of Airflow that uses the metadata database, and start it again with the replicas that it had."""

from collections.abc import Iterable
from typing import Any

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import err, fail
from airflow_ops.waiting import wait_until

COMPONENTS = ("scheduler", "dag-processor", "triggerer", "api-server")
"""Components of either colour that use the metadata database; worker pods use the API server instead."""
STOPPED = "airflow-platform.io/replicas-before-stop"
"""Annotation of a Deployment that was stopped: how many replicas it had, for this command or a later one."""
STOP_SECONDS = 180
START_SECONDS = 900


def _selector(names: Iterable[str]) -> str:
    return f"tier=airflow,component in ({','.join(names)})"


def deployments(cluster: Cluster, names: Iterable[str] = COMPONENTS) -> list[Any]:
    """The Deployments of components, of both colours."""
    return list(cluster.apps.list_namespaced_deployment(cluster.namespace, label_selector=_selector(names)).items)


def stopped_deployments(cluster: Cluster) -> dict[str, int]:
    """The Deployments that were stopped, with the replicas they had."""
    annotations = {each.metadata.name: each.metadata.annotations or {} for each in deployments(cluster)}
    return {name: int(own[STOPPED]) for name, own in annotations.items() if STOPPED in own}


def stop(cluster: Cluster, names: Iterable[str] = COMPONENTS) -> None:
    """Scale components to 0 and wait until their pods are gone; an annotation keeps each Deployment's replicas.

    Args:
        cluster: The environment.
        names: The components; all by default.

    Raises:
        ProblemError: A pod does not end; what was stopped is started again.
    """
    for each in deployments(cluster, names):
        if each.spec.replicas:
            change: dict[str, Any] = {"spec": {"replicas": 0}}
            # A number from an earlier attempt is the right one: this one may be what a failed start has left.
            if STOPPED not in (each.metadata.annotations or {}):
                change["metadata"] = {"annotations": {STOPPED: str(each.spec.replicas)}}
            cluster.apps.patch_namespaced_deployment(each.metadata.name, cluster.namespace, change)
    with err.status("stopping Airflow"):
        gone = wait_until(lambda: not _pods(cluster, names), STOP_SECONDS, 0.5)
    if not gone:
        left = _pods(cluster, names)
        start_again(cluster)
        raise fail(
            f"{', '.join(left)} did not end in {STOP_SECONDS} s.",
            "Nothing was changed. Find out why with `kubectl describe` and the pods' logs.",
        )


def _pods(cluster: Cluster, names: Iterable[str]) -> list[str]:
    pods = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=_selector(names)).items
    # An evicted pod stays as Failed until somebody deletes it.
    return [pod.metadata.name for pod in pods if pod.status.phase in ("Pending", "Running", "Unknown")]


def start(cluster: Cluster, replicas: dict[str, int]) -> None:
    """Scale Deployments up again and wait until they are ready.

    Args:
        cluster: The environment.
        replicas: Replicas by name of the Deployment.

    Raises:
        ProblemError: One does not become ready.
    """
    for name, count in replicas.items():
        cluster.apps.patch_namespaced_deployment(name, cluster.namespace, {"spec": {"replicas": count}})
    with err.status("starting Airflow"):
        for name in replicas:
            _wait_until_ready(cluster, name)
    # Last: the next run starts every Deployment that still has the annotation.
    forget(cluster, replicas)


def start_again(cluster: Cluster) -> None:
    """Start every Deployment that was stopped, by this command or by an earlier one.

    Raises:
        ProblemError: See `start`.
    """
    start(cluster, stopped_deployments(cluster))


def forget(cluster: Cluster, names: Iterable[str]) -> None:
    """Forget how many replicas Deployments had when they were stopped."""
    for name in names:
        cluster.apps.patch_namespaced_deployment(
            name, cluster.namespace, {"metadata": {"annotations": {STOPPED: None}}}
        )


def _wait_until_ready(cluster: Cluster, name: str) -> None:
    def is_ready() -> bool:
        found = cluster.apps.read_namespaced_deployment(name, cluster.namespace)
        return bool((found.status.ready_replicas or 0) >= found.spec.replicas)

    if not wait_until(is_ready, START_SECONDS):
        raise fail(
            f"Deployment {name} of {cluster.namespace} is not ready after {START_SECONDS} s.",
            "Correct what keeps its pods from starting, then run the same command again: it continues.",
        )
