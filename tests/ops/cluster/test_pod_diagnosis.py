"""When a pod is given up."""

import pytest
from kubernetes import client

from airflow_ops.cluster.pod_diagnosis import is_crash_looping


def pod(restarts: int, waiting: str | None, *, init: bool = False) -> client.V1Pod:
    state = client.V1ContainerState(waiting=client.V1ContainerStateWaiting(reason=waiting) if waiting else None)
    status = client.V1ContainerStatus(
        name="c", image="i", image_id="", ready=False, restart_count=restarts, state=state
    )
    kind = "init_container_statuses" if init else "container_statuses"
    return client.V1Pod(status=client.V1PodStatus(**{kind: [status]}))


@pytest.mark.parametrize("init", [False, True])
def test_a_container_that_ends_again_and_again_is_given_up(init: bool) -> None:
    assert is_crash_looping(pod(4, "CrashLoopBackOff", init=init))


@pytest.mark.parametrize(
    ("restarts", "waiting"),
    [(3, "CrashLoopBackOff"), (9, None), (0, "ContainerCreating"), (9, "CreateContainerConfigError")],
)
def test_one_that_may_recover_is_not(restarts: int, waiting: str | None) -> None:
    assert not is_crash_looping(pod(restarts, waiting))


def test_a_pod_without_containers_yet_is_not() -> None:
    assert not is_crash_looping(client.V1Pod(status=client.V1PodStatus()))
