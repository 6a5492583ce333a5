"""Why a pod does not work: its state, its events, its last log lines."""

from typing import Any

from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster

LOG_LINES = 15
CRASH_LOOP = "CrashLoopBackOff"
MOST_RESTARTS = 4
"""The kubelet waits 10, 20, 40 and 80 s before them, in all 150 s."""


def pod_state(pod: Any) -> str:
    """A pod's phase, or the reason why one of its containers waits or has failed."""
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    for status in statuses:
        state = status.state
        if state.waiting and state.waiting.reason not in (None, "PodInitializing", "ContainerCreating"):
            return str(state.waiting.reason)
        if state.terminated and state.terminated.exit_code != 0:
            return f"{state.terminated.reason or 'Error'} (exit {state.terminated.exit_code})"
    unscheduled = [c for c in pod.status.conditions or [] if c.type == "PodScheduled" and c.status == "False"]
    return str(unscheduled[0].reason) if unscheduled else str(pod.status.phase)


def is_crash_looping(pod: Any) -> bool:
    """Whether a container of a pod has ended again and again: it has had two and a half minutes to recover."""
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    return any(
        status.restart_count >= MOST_RESTARTS and status.state.waiting and status.state.waiting.reason == CRASH_LOOP
        for status in statuses
    )


def is_healthy(pod: Any) -> bool:
    """Whether a pod has succeeded, or all of its containers are ready."""
    if pod.status.phase == "Succeeded":
        return True
    return pod.status.phase == "Running" and all(status.ready for status in pod.status.container_statuses or [])


def pod_evidence(cluster: Cluster, pod: Any) -> list[str]:
    """The state, the last events and the last log lines of a pod.

    Args:
        cluster: The environment.
        pod: The pod, as the Kubernetes client gives it.
    """
    name = pod.metadata.name
    lines = [f"pod {name}: {pod_state(pod)}"]
    events = cluster.core.list_namespaced_event(cluster.namespace, field_selector=f"involvedObject.name={name}").items
    lines += [f"  event {event.reason}: {event.message}" for event in events if event.type == "Warning"][-5:]
    for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        if status.ready or (status.state.terminated and status.state.terminated.exit_code == 0):
            continue
        lines += [f"  {status.name} | {line}" for line in _last_log(cluster, name, status)]
    return lines


def _last_log(cluster: Cluster, pod: str, status: Any) -> list[str]:
    previous = bool(status.state.waiting and status.restart_count)
    try:
        text = cluster.log(pod, container=status.name, tail_lines=LOG_LINES, previous=previous)
    except ApiException:
        return []  # a container that never started has no log
    return text.splitlines()
