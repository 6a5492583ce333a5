"""Stopping Airflow and starting it again, also after an attempt that was cut off; the Kubernetes API is a fake."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client

from airflow_ops.cluster import components
from airflow_ops.cluster.connection import Cluster
from airflow_ops.environments.environment import Environment

API_SERVER = "airflow-blue-api-server"


@dataclass
class Kubernetes:
    """One Deployment, and pods of it."""

    replicas: int
    annotations: dict[str, str] = field(default_factory=dict)
    pods: list[client.V1Pod] = field(default_factory=list)

    def list_namespaced_deployment(self, *_: Any, **__: Any) -> Any:
        metadata = client.V1ObjectMeta(name=API_SERVER, annotations=dict(self.annotations))
        return SimpleNamespace(items=[SimpleNamespace(metadata=metadata, spec=SimpleNamespace(replicas=self.replicas))])

    def list_namespaced_pod(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(items=self.pods)

    def read_namespaced_deployment(self, *_: Any) -> Any:
        return SimpleNamespace(
            spec=SimpleNamespace(replicas=self.replicas), status=SimpleNamespace(ready_replicas=self.replicas)
        )

    def patch_namespaced_deployment(self, _name: str, _namespace: str, change: dict[str, Any]) -> None:
        self.replicas = change.get("spec", {}).get("replicas", self.replicas)
        for key, value in change.get("metadata", {}).get("annotations", {}).items():
            if value is None:
                self.annotations.pop(key)
            else:
                self.annotations[key] = value


def stop_and_start(monkeypatch: pytest.MonkeyPatch, kubernetes: Kubernetes) -> None:
    monkeypatch.setattr(Cluster, "apps", kubernetes)
    monkeypatch.setattr(Cluster, "core", kubernetes)
    monkeypatch.setattr(components, "STOP_SECONDS", 0)
    cluster = Cluster(Environment("dev"), "test")
    components.stop(cluster)
    assert kubernetes.replicas == 0
    components.start(cluster, components.stopped_deployments(cluster))


def pod(phase: str) -> client.V1Pod:
    return client.V1Pod(metadata=client.V1ObjectMeta(name="p"), status=client.V1PodStatus(phase=phase))


@pytest.mark.parametrize(
    ("kubernetes", "replicas"),
    [
        (Kubernetes(3), 3),
        (Kubernetes(0, {components.STOPPED: "3"}), 3),  # killed after it had stopped it
        (Kubernetes(1, {components.STOPPED: "3"}), 3),  # a start that failed has left one
        (Kubernetes(0), 0),
        (Kubernetes(3, pods=[pod("Failed")]), 3),  # an evicted pod stays until somebody deletes it
    ],
)
def test_it_stops_whatever_an_earlier_attempt_has_left(
    monkeypatch: pytest.MonkeyPatch, kubernetes: Kubernetes, replicas: int
) -> None:
    stop_and_start(monkeypatch, kubernetes)
    assert kubernetes.replicas == replicas
    assert kubernetes.annotations == {}


def test_a_pod_that_does_not_end_is_named_and_airflow_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kubernetes = Kubernetes(3, pods=[pod("Running")])
    with pytest.raises(Exception, match="p did not end in 0 s"):
        stop_and_start(monkeypatch, kubernetes)
    assert kubernetes.replicas == 3
