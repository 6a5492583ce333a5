"""Pods that read a changed Secret are replaced once, also after an attempt that was cut off; Kubernetes is a fake."""

import base64
import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster import rollouts
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment

LOOKS_FOR_A_POD = 3
"""How often the fake is asked before the next pod is there and ready."""
PATIENCE = 5
"""How often `wait_until` asks in these tests."""


def workload(kind: type, name: str, secret: str, replicas: int) -> Any:
    """A Deployment or StatefulSet whose pods all run."""
    source = client.V1EnvFromSource(secret_ref=client.V1SecretEnvSource(name=secret))
    spec = client.V1PodSpec(containers=[client.V1Container(name="c", env_from=[source])])
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels={"app": name}), spec=spec)
    selector = client.V1LabelSelector(match_labels={"app": name})
    inner: dict[str, Any] = {"selector": selector, "template": template, "replicas": replicas}
    counts = {f"{each}replicas": replicas for each in ("", "updated_", "ready_", "available_")}
    if kind is client.V1Deployment:
        made, status = client.V1DeploymentSpec(**inner), client.V1DeploymentStatus(observed_generation=1, **counts)
    else:
        made = client.V1StatefulSetSpec(service_name=name, **inner)
        status = client.V1StatefulSetStatus(observed_generation=1, **counts)
    return kind(metadata=client.V1ObjectMeta(name=name, generation=1), spec=made, status=status)


class Kubernetes:
    """Workloads whose pods are replaced one after the other while somebody looks, and a Secret."""

    def __init__(self, *workloads: Any) -> None:
        self.workloads = {each.metadata.name: each for each in workloads}
        self.restarted: list[str] = []
        self.broken = False
        self.secret: Any = client.V1Secret(metadata=client.V1ObjectMeta(resource_version="7"), data={})
        self.pods: list[Any] = []
        self.looks = 0
        self.api_client = client.ApiClient()
        self.list_namespaced_deployment = self._list(client.V1Deployment)
        self.list_namespaced_stateful_set = self._list(client.V1StatefulSet)
        self.read_namespaced_deployment = self.read_namespaced_stateful_set = self._look
        self.patch_namespaced_deployment = self.patch_namespaced_stateful_set = self._patch

    def _list(self, kind: type) -> Callable[..., Any]:
        return lambda *_: client.V1DeploymentList(
            items=[each for each in self.workloads.values() if isinstance(each, kind)]
        )

    def _patch(self, name: str, _namespace: str, change: dict[str, Any]) -> None:
        found = self.workloads[name]
        new = change["spec"]["template"]["metadata"]["annotations"]
        metadata = found.spec.template.metadata
        if new.items() <= (metadata.annotations or {}).items():
            return
        metadata.annotations = (metadata.annotations or {}) | new
        found.metadata.generation += 1
        self.restarted.append(name)

    def _look(self, name: str, _namespace: str) -> Any:
        """As the controller does it: the status is of before at first, then one pod after the other is replaced."""
        found, self.looks = self.workloads[name], self.looks + 1
        status = found.status
        if self.looks % LOOKS_FOR_A_POD == 0:
            if status.observed_generation < found.metadata.generation:
                status.observed_generation, status.updated_replicas = found.metadata.generation, 0
            elif status.updated_replicas < found.spec.replicas and not self.broken:
                status.updated_replicas += 1
        return copy.deepcopy(found)

    def read_namespaced_secret(self, *_: Any) -> Any:
        if self.secret is None:
            raise ApiException(status=404)
        return self.secret

    def change_secret(self) -> None:
        version = str(int(self.secret.metadata.resource_version) + 1)
        self.secret.metadata.resource_version = version
        self.secret.data = {"key": base64.b64encode(version.encode()).decode()}

    def list_namespaced_pod(self, *_: Any, **__: Any) -> Any:
        return client.V1PodList(items=self.pods)

    def list_namespaced_event(self, *_: Any, **__: Any) -> Any:
        return client.CoreV1EventList(items=[])


def deployment(name: str, secret: str = "keys", replicas: int = 1) -> Any:  # noqa: S107
    return workload(client.V1Deployment, name, secret, replicas)


@pytest.fixture
def restart(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Restart what reads a Secret of a fake, which is asked a few times at most for each wait."""

    def ask(condition: Callable[[], Any], *_: Any) -> Any:
        return next(filter(None, (condition() for _ in range(PATIENCE))), None)

    def run(kubernetes: Kubernetes, secret: str = "keys") -> None:  # noqa: S107
        monkeypatch.setattr(Cluster, "core", kubernetes)
        monkeypatch.setattr(Cluster, "apps", kubernetes)
        rollouts.restart_readers(Cluster(Environment("dev"), "test"), secret)

    monkeypatch.setattr(rollouts, "wait_until", ask)
    return run


def test_what_reads_the_secret_is_replaced_and_nothing_else(restart: Callable[..., None]) -> None:
    stateful = workload(client.V1StatefulSet, "mirror", "keys", 2)
    there = Kubernetes(deployment("api"), stateful, deployment("other", "else"), deployment("off", replicas=0))
    restart(there)
    assert there.restarted == ["api", "mirror"]
    assert stateful.status.updated_replicas == 2, "it was waited for"


def test_a_retry_waits_for_the_pods_that_already_get_it_and_replaces_none_again(restart: Callable[..., None]) -> None:
    there = Kubernetes(deployment("api", replicas=3), deployment("scheduler"))
    there.broken = True
    with pytest.raises(ProblemError, match="deployment/api .* 0 of 3 pods"):
        restart(there)
    there.broken = False
    restart(there)
    restart(there)
    assert there.restarted == ["api", "scheduler"], "each of them once, by the first attempt"
    assert there.workloads["api"].status.updated_replicas == 3


def test_a_secret_that_has_changed_since_is_brought_to_the_pods_again(restart: Callable[..., None]) -> None:
    there = Kubernetes(deployment("api"))
    for expected in (1, 2):
        restart(there)
        assert there.restarted == ["api"] * expected
        there.change_secret()


def test_two_secrets_of_a_pod_are_told_apart(restart: Callable[..., None]) -> None:
    both = deployment("api")
    source = client.V1EnvFromSource(secret_ref=client.V1SecretEnvSource(name="more"))
    both.spec.template.spec.containers[0].env_from.append(source)
    there = Kubernetes(both)
    restart(there, "keys")
    restart(there, "more")
    assert there.restarted == ["api", "api"], "the pods may have read the second one before it changed"
    restart(there, "keys")
    assert there.restarted == ["api", "api"]


def test_the_time_is_for_each_pod_not_for_all_of_them(restart: Callable[..., None]) -> None:
    replicas = 2 * PATIENCE
    there = Kubernetes(deployment("api", replicas=replicas))
    restart(there)
    assert there.workloads["api"].status.updated_replicas == replicas


def test_an_old_pod_that_does_not_end_is_not_passed_over(restart: Callable[..., None]) -> None:
    there = Kubernetes(deployment("api"))
    there.pods = [client.V1Pod(metadata=client.V1ObjectMeta(name="old", deletion_timestamp="2026-01-01T00:00:00Z"))]
    with pytest.raises(ProblemError, match="an old pod of deployment/api does not end"):
        restart(there)


def test_pods_that_run_but_are_not_ready_are_not_enough(restart: Callable[..., None]) -> None:
    there = Kubernetes(deployment("api", replicas=2))
    there.workloads["api"].status.available_replicas = 1
    with pytest.raises(ProblemError, match="deployment/api does not become ready"):
        restart(there)


def test_a_secret_that_nothing_reads_or_that_is_missing_is_named(restart: Callable[..., None]) -> None:
    there = Kubernetes(deployment("api"))
    with pytest.raises(ProblemError, match="no Deployment or StatefulSet of airflow-dev reads Secret else"):
        restart(there, "else")
    there.secret = None
    with pytest.raises(ProblemError, match="Secret keys does not exist in airflow-dev"):
        restart(there)
    assert there.restarted == []


def test_the_annotation_is_one_that_kubernetes_accepts_for_the_longest_name_of_a_secret() -> None:
    for name in ("airflow-fernet", "a" * 62 + ".b", "x" * 253):
        prefix, _, key = rollouts.annotation(name).partition("/")
        assert len(prefix) <= 253
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", key)
    assert rollouts.annotation("airflow-fernet") != rollouts.annotation("airflow-jwt")
