"""A deploy says which addresses of the cluster tasks can reach, because only the cluster knows them."""

from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import V1Node, V1NodeAddress, V1NodeSpec, V1NodeStatus, V1ObjectMeta, V1Service, V1ServiceSpec
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.deployment import cluster_addresses
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Manifest


def policy(*blocks: dict[str, Any], name: str = "airflow-worker") -> Manifest:
    rules = [{"to": [{"ipBlock": block}]} for block in blocks]
    body = {"kind": "NetworkPolicy", "metadata": {"name": name}, "spec": {"egress": [{"to": [{}]}, *rules]}}
    return Manifest("airflow-platform", "airflow-dev", body)


def node(address: str, pods: str) -> V1Node:
    addresses = [V1NodeAddress(type="InternalIP", address=address), V1NodeAddress(type="Hostname", address="one")]
    return V1Node(
        metadata=V1ObjectMeta(name="one"), spec=V1NodeSpec(pod_cidrs=[pods]), status=V1NodeStatus(addresses=addresses)
    )


def services(*addresses: str) -> list[V1Service]:
    return [V1Service(metadata=V1ObjectMeta(name="kubernetes"), spec=V1ServiceSpec(cluster_ips=list(addresses)))]


def cluster_with(monkeypatch: pytest.MonkeyPatch, **reads: Any) -> Cluster:
    cluster = Cluster(Environment.load("dev"), "test")
    monkeypatch.setitem(cluster.__dict__, "core", SimpleNamespace(**reads))
    return cluster


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return cluster_with(
        monkeypatch,
        list_node=lambda: SimpleNamespace(items=[node("172.18.0.2", "10.244.3.0/24")]),
        list_namespaced_service=lambda _: SimpleNamespace(items=services("10.96.0.1", "None")),
    )


EVERYTHING = {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}


@pytest.mark.parametrize(
    ("kept_out", "named"),
    [
        ([], ["172.18.0.2 (node one)", "10.244.3.0/24 (pods of node one)", "10.96.0.1 (Service kubernetes)"]),
        (["10.244.0.0/16", "10.96.0.0/16"], ["172.18.0.2 (node one)"]),
        (["10.0.0.0/8", "172.16.0.0/12"], []),
        # The first half of the range of pods only.
        (["10.244.3.0/25", "10.96.0.0/16", "172.16.0.0/12"], ["10.244.3.0/24 (pods of node one)"]),
        (None, ["172.18.0.2 (node one)", "10.244.3.0/24 (pods of node one)", "10.96.0.1 (Service kubernetes)"]),
    ],
)
def test_what_is_not_kept_out_is_named(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], kept_out: list[str] | None, named: list[str]
) -> None:
    cluster_addresses.warn_of_open(cluster, [policy({**EVERYTHING, "except": kept_out})])
    said = " ".join(capsys.readouterr().err.split())
    assert ("platform.networkPolicy.clusterAddresses" in said) is bool(named)
    for each in ["172.18.0.2 (node one)", "10.244.3.0/24 (pods of node one)", "10.96.0.1 (Service kubernetes)"]:
        assert (each in said) is (each in named)


def test_two_halves_are_every_address(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster_addresses.warn_of_open(cluster, [policy({"cidr": "0.0.0.0/1"}, {"cidr": "128.0.0.0/1"})])
    said = " ".join(capsys.readouterr().err.split())
    for each in ["172.18.0.2 (node one)", "10.244.3.0/24 (pods of node one)", "10.96.0.1 (Service kubernetes)"]:
        assert each in said


def test_a_rule_for_whomever_has_no_addresses(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = policy({"cidr": "10.0.0.0/8"})
    manifest.object["spec"]["egress"] += [{"to": None}, {"ports": [{"port": 443}]}]
    cluster_addresses.warn_of_open(cluster, [manifest])
    manifest.object["spec"]["egress"] = None
    cluster_addresses.warn_of_open(cluster, [manifest])
    assert capsys.readouterr().err == ""


def test_what_is_no_address_is_passed_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [node("ip-10-0-0-1", "10.244.3.0/24"), node("fe80::1%eth0", "none"), node("172.18.0.2", "10.244.4.0/24")]
    cluster = cluster_with(
        monkeypatch,
        list_node=lambda: SimpleNamespace(items=nodes),
        list_namespaced_service=lambda _: SimpleNamespace(items=services("None", "", "10.96.0.1")),
    )
    cluster_addresses.warn_of_open(cluster, [policy({**EVERYTHING, "except": ["10.244.0.0/16", "10.96.0.0/16"]})])
    assert "tasks reach 172.18.0.2 (node one), since" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "manifests",
    [
        [],  # no network policies
        [policy({"cidr": "172.18.0.0/16"}, {"cidr": "10.0.0.0/8"})],  # entries of their own are meant
        [policy({"cidr": "::/0"})],
        [policy(EVERYTHING, name="airflow-scheduler")],  # no task
    ],
)
def test_what_is_meant_is_not_named(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], manifests: list[Manifest]
) -> None:
    cluster_addresses.warn_of_open(cluster, manifests)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("problem", [ApiException(403, "Forbidden"), ApiException(500, "etcd"), ApiException(0, "TLS")])
def test_nodes_that_are_not_listed_are_said_not_to_be_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problem: ApiException
) -> None:
    def refused() -> None:
        raise problem

    cluster = cluster_with(
        monkeypatch,
        list_node=refused,
        list_namespaced_service=lambda _: SimpleNamespace(items=services("10.96.0.1")),
    )
    cluster_addresses.warn_of_open(cluster, [policy(EVERYTHING)])
    said = " ".join(capsys.readouterr().err.split())
    assert f"nodes: not read ({problem.reason}), so" in said
    assert "10.96.0.1 (Service kubernetes)" in said
