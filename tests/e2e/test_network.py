"""Who reaches whom in the cluster: each path of files/network.yaml is open, and no other, for a pod of each kind.

What is expected is worked out from files/network.yaml and the values, not from the NetworkPolicies. The pods stand
for the real ones: they have the labels that the policies select, without those by which Services and controllers
select.
"""

import ipaddress
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster import plain_pods
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import out
from airflow_ops.console import table as new_table
from airflow_ops.paths import ROOT
from support.live_environment import wait_for

PROGRAM = (ROOT / "tests/support/network_probe.py").read_text()
NETWORK = yaml.safe_load((ROOT / "charts/platform/files/network.yaml").read_text())
ELSEWHERE = "airflow-network-test"
UNNAMED_PORTS = [8793, 10250]
"""Ports that no path names: a worker's log server, and a kubelet's."""
SETTLING_SECONDS = 90
"""A plug-in learns of new pods after they have started."""
OUTSIDE = {
    "warehouse": "203.0.113.7",
    "metadata server": "169.254.169.254",
    "Azure's second one": "168.63.129.16",
    "Alibaba's": "100.100.100.200",
}
OUTSIDE_PORTS = [80, 443, 5432]
REFUSED = [
    *((source, "node", 10250) for source in ("worker", "triggerer", "dag-processor", "api-server", "stray")),
    *((source, "Kubernetes", 443) for source in ("worker", "triggerer", "dag-processor", "stray")),
    *((source, "somebody's pod", 8080) for source in ("worker", "triggerer", "dag-processor", "api-server")),
    *((source, "metadata server", port) for source in NETWORK["pods"] for port in (80, 443)),
    *((source, "warehouse", 5432) for source in ("dag-processor", "api-server", "scheduler", "stray")),
    ("worker", "pgbouncer", 6543),
    ("worker", "another worker", 8793),
    ("somebody's pod", "database", 5432),
]
"""What must be refused whatever network.yaml and the values say."""


@dataclass(frozen=True)
class Place:
    """An end of a path.

    Attributes:
        name: The pod's name in files/network.yaml, or what it stands for.
        namespace: Its namespace; empty outside of the cluster.
        address: Its IP address.
        ports: What listens there.
        pod: The pod that stands for it, if it is one of this test's.
    """

    name: str
    namespace: str
    address: str
    ports: tuple[str, ...]
    pod: str = ""


@dataclass(frozen=True)
class Expectation:
    """What files/network.yaml and platform.networkPolicy allow."""

    settings: dict[str, Any]
    namespace: str

    def allows(self, source: Place, target: Place, port: str) -> bool:
        """Whether the sender may open it and the receiver accepts it; other namespaces accept everything."""
        sends = (
            source.namespace != self.namespace
            or self._asks_dns(target, port)
            or any(
                source.name in path["from"] and self._covers(path["to"], target, port, path.get("ports"))
                for path in NETWORK["paths"]
            )
        )
        takes = target.namespace != self.namespace or any(
            path["to"] == target.name and any(self._covers(name, source, port, path["ports"]) for name in path["from"])
            for path in NETWORK["paths"]
        )
        return sends and takes

    def _asks_dns(self, target: Place, port: str) -> bool:
        return target.namespace == self.settings["dnsNamespace"] and port in {"53/TCP", "53/UDP"}

    def _covers(self, name: str, place: Place, port: str, ports: list[Any] | None) -> bool:
        if name in NETWORK["pods"]:
            return name == place.name and place.namespace == self.namespace and _has(ports, port)
        if name.endswith("Namespace"):
            return self.settings[name] == place.namespace and _has(ports, port)
        return any(
            self._within(name, entry, place.address) and _has(entry.get("ports") or ports, port)
            for entry in self.settings[name]
        )

    def _within(self, name: str, entry: dict[str, Any], address: str) -> bool:
        kept_out = list(entry.get("except", []))
        if name == "outside" and entry["cidr"].endswith("/0"):
            kept_out += [e["cidr"] for e in self.settings["databaseAddresses"] + self.settings["clusterAddresses"]]
        found = ipaddress.ip_address(address)
        return found in ipaddress.ip_network(entry["cidr"]) and not any(
            found in ipaddress.ip_network(each) for each in kept_out
        )


def _has(ports: list[Any] | None, port: str) -> bool:
    return not ports or port in {f"{each}" if "/" in f"{each}" else f"{each}/TCP" for each in ports}


def both(*numbers: int) -> tuple[str, ...]:
    """Ports in both protocols."""
    return tuple(f"{number}/{protocol}" for number in numbers for protocol in ("TCP", "UDP"))


def named_ports() -> list[int]:
    """Every port of a path between pods; a container without rights cannot listen below 1024."""
    ports = {int(f"{port}".partition("/")[0]) for path in NETWORK["paths"] for port in path.get("ports", [])}
    return sorted(port for port in ports if port >= 1024)


def probe_pod(cluster: Cluster, name: str, namespace: str, words: list[str]) -> dict[str, Any]:
    """A pod that listens; it is never ready, so that no Service leads to it."""
    pod = plain_pods.pod(cluster.environment, name, "network-test", ["python", "-c", PROGRAM, "listen", *words], {})
    pod["metadata"]["namespace"] = namespace
    pod["spec"]["terminationGracePeriodSeconds"] = 5
    if namespace == cluster.namespace:
        # Admission judges pods of other accounts as tasks' pods, which may not have these labels.
        pod["spec"]["serviceAccountName"] = "airflow-platform"
    container = pod["spec"]["containers"][0]
    container["readinessProbe"] = {"exec": {"command": ["false"]}, "periodSeconds": 600}
    container["resources"] = {
        "requests": {"cpu": "20m", "memory": "64Mi"},
        "limits": {"cpu": "200m", "memory": "128Mi"},
    }
    return pod


def outside_pod(cluster: Cluster) -> dict[str, Any]:
    """A pod in the node's network that takes addresses outside of the cluster."""
    words = [*map(str, OUTSIDE_PORTS), "--address", *OUTSIDE.values()]
    pod = probe_pod(cluster, "outside", ELSEWHERE, words)
    pod["spec"]["hostNetwork"] = True
    pod["spec"]["securityContext"] = {"runAsUser": 0}
    pod["spec"]["containers"][0]["securityContext"] = {"capabilities": {"add": ["NET_ADMIN"]}}
    return pod


def wanted_pods(cluster: Cluster) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pods to make, each with the name of its place."""
    ports = [str(port) for port in [*named_ports(), *UNNAMED_PORTS]]
    for name, labels in NETWORK["pods"].items():
        pod = probe_pod(cluster, f"network-test-{name}", cluster.namespace, ports)
        pod["metadata"]["labels"] = labels
        yield name, pod
        if name == "worker":
            pod = {**pod, "metadata": {**pod["metadata"], "name": "network-test-another-worker"}}
            yield "another worker", pod
    yield "stray", probe_pod(cluster, "network-test-stray", cluster.namespace, ports)
    for name, namespace in (
        ("somebody's pod", ELSEWHERE),
        *((key, settings_of(cluster)[key]) for key in ("ingressNamespace", "monitoringNamespace")),
    ):
        yield name, probe_pod(cluster, "network-test", namespace, ports)


def settings_of(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.environment.values["platform"]["networkPolicy"]
    return found


@pytest.fixture(scope="module")
def namespaces(cluster: Cluster) -> Iterator[None]:
    """The namespaces beside the environment's; those that were there stay."""
    made = []
    for name in (ELSEWHERE, settings_of(cluster)["ingressNamespace"], settings_of(cluster)["monitoringNamespace"]):
        try:
            cluster.core.create_namespace({"metadata": {"name": name}})
            made.append(name)
        except ApiException as error:
            if error.status != 409:
                raise
    yield
    for name in made:
        cluster.core.delete_namespace(name)


@pytest.fixture(scope="module")
def places(cluster: Cluster, namespaces: None) -> Iterator[dict[str, Place]]:
    """The pods, and what is there anyway."""
    made = dict(wanted_pods(cluster))
    pods = [*made.values(), outside_pod(cluster)]
    try:
        for pod in pods:
            cluster.core.create_namespaced_pod(pod["metadata"]["namespace"], pod)
        found = {name: place_of(cluster, name, pod) for name, pod in made.items()}
        wait_until_listening(cluster, pods[-1])
        yield {**found, **others(cluster)}
    finally:
        for pod in pods:
            where = ("-n", pod["metadata"]["namespace"], "--ignore-not-found", "--wait=false")
            cluster.kubectl("delete", "pod", pod["metadata"]["name"], *where)


def place_of(cluster: Cluster, name: str, pod: dict[str, Any]) -> Place:
    address = wait_until_listening(cluster, pod)
    kind = "worker" if name == "another worker" else name
    metadata = pod["metadata"]
    return Place(kind, metadata["namespace"], address, both(*named_ports(), *UNNAMED_PORTS), metadata["name"])


def wait_until_listening(cluster: Cluster, pod: dict[str, Any]) -> str:
    """The address of a pod, once it listens."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]

    def look() -> str | None:
        found = cluster.core.read_namespaced_pod(name, namespace)
        if found.status.phase != "Running":
            return None
        log = cluster.core.read_namespaced_pod_log(name, namespace)
        return found.status.pod_ip if "listening" in log else None

    found = wait_for(f"pod {namespace}/{name}", look, 300)
    assert found
    return found


def others(cluster: Cluster) -> dict[str, Place]:
    node = next(
        each.address for each in cluster.core.list_node().items[0].status.addresses if each.type == "InternalIP"
    )
    kubernetes = cluster.core.read_namespaced_service("kubernetes", "default").spec.cluster_ip
    dns = cluster.core.read_namespaced_service("kube-dns", "kube-system").spec.cluster_ip
    found = [
        Place("node", "", node, ("10250/TCP",)),
        Place("Kubernetes", "", kubernetes, ("443/TCP",)),
        Place("DNS", settings_of(cluster)["dnsNamespace"], dns, ("53/TCP", "53/UDP")),
        *(Place(name, "", address, both(*OUTSIDE_PORTS)) for name, address in OUTSIDE.items()),
    ]
    return {place.name: place for place in found}


Path = tuple[Place, Place, str]


def seen(cluster: Cluster, source: Place, paths: list[Path]) -> dict[Path, bool]:
    """Whether each path of one source is open."""
    lines = {
        f"{port.partition('/')[2].lower()} {target.address} {port.partition('/')[0]}": (source, target, port)
        for source, target, port in paths
    }
    reach = ["python", "-c", PROGRAM, "reach"]
    said = cluster.kubectl("-n", source.namespace, "exec", "-i", source.pod, "--", *reach, stdin="\n".join(lines))
    answered = set(said.splitlines())
    return {path: line in answered for line, path in lines.items()}


def differing(cluster: Cluster, expected: dict[Path, bool]) -> dict[Path, bool]:
    """What is seen of the paths that differ from what is expected."""
    by_source: dict[Place, list[Path]] = {}
    for path in expected:
        by_source.setdefault(path[0], []).append(path)
    found: dict[Path, bool] = {}
    # A few at a time: each starts a Python in its pod.
    with ThreadPoolExecutor(4) as threads:
        for each in threads.map(lambda item: seen(cluster, *item), by_source.items()):
            found |= each
    return {path: is_open for path, is_open in found.items() if is_open is not expected[path]}


def report(expected: dict[Path, bool], wrong: dict[Path, bool]) -> None:
    """Print path, expected and seen; the refused ones that were refused are counted for each source."""
    words = {True: "open", False: "refused"}
    rows = new_table("path", "expected", "seen")
    for path, is_open in expected.items():
        if is_open or path in wrong:
            source, target, port = path
            rows.add_row(f"{source.name} -> {target.name}:{port}", words[is_open], words[wrong.get(path, is_open)])
    for source in dict.fromkeys(path[0] for path in expected):
        refused = [
            path for path, is_open in expected.items() if path[0] is source and not is_open and path not in wrong
        ]
        rows.add_row(f"{source.name} -> {len(refused)} others", "refused", "refused")
    out.print(rows)


def test_each_path_is_open_and_no_other(cluster: Cluster, places: dict[str, Place]) -> None:
    expectation = Expectation(settings_of(cluster), cluster.namespace)
    for source, target, port in REFUSED:
        assert not expectation.allows(places[source], places[target], f"{port}/TCP"), f"{source} -> {target}:{port}"
    expected = {
        (source, target, port): expectation.allows(source, target, port)
        for source in places.values()
        if source.pod
        for target in places.values()
        for port in target.ports
        if source is not target and cluster.namespace in (source.namespace, target.namespace)
    }
    wrong = differing(cluster, expected)
    deadline = time.monotonic() + SETTLING_SECONDS
    while wrong and time.monotonic() < deadline:
        wrong = differing(cluster, {path: expected[path] for path in wrong})
    report(expected, wrong)
    assert any(expected.values())
    assert not wrong, f"{len(wrong)} paths are not as expected, see above"
