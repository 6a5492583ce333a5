"""Who reaches whom, both ways, in every environment: worked out from the rendered NetworkPolicies."""

from typing import Any

import pytest
import yaml

from airflow_ops.paths import ROOT
from support.chart_rendering import Charts, Render, Rendered
from support.network_policy import Peer, allows, isolated

NAMESPACE = "airflow"
ELSEWHERE = {
    "prometheus": Peer({"app": "prometheus"}, "monitoring"),
    "ingress controller": Peer({"app": "ingress-nginx"}, "ingress-nginx"),
    "somebody's pod": Peer({"app": "stranger"}, "default"),
    "DNS": Peer({"k8s-app": "kube-dns"}, "kube-system"),
    "Kubernetes": Peer(address="198.51.100.1"),
    "warehouse": Peer(address="203.0.113.7"),
    "metadata server": Peer(address="169.254.169.254"),
    "Azure's second one": Peer(address="168.63.129.16"),
    "Alibaba's": Peer(address="100.100.100.200"),
    "managed database": Peer(address="10.20.8.5"),
    "Git server": Peer(address="192.0.2.10"),
}
COMPONENTS = ["api-server", "scheduler", "dag-processor", "triggerer"]
# A pod that a DAG starts without a label of ours, and one of the other colour.
STRAY = {"kubernetes_pod_operator": "True"}

# source, target, port: what must get through everywhere
ALLOWED = [
    *((source, "api-server", 8080) for source in ("worker", "scheduler", "dag-processor", "triggerer")),
    ("ingress controller", "api-server", 8080),
    ("api-server", "triggerer", 8794),
    *((source, "git-mirror", 9418) for source in ("worker", "dag-processor", "triggerer")),
    *((source, "statsd", "9125/UDP") for source in (*COMPONENTS, "worker")),
    ("prometheus", "statsd", 9102),
    ("prometheus", "git-mirror", 9104),
    *((source, "Kubernetes", 6443) for source in ("scheduler", "api-server", "pod-cleanup")),
    *((source, "DNS", "53/UDP") for source in (*COMPONENTS, "worker", "git-mirror", "stray")),
    *(("operations", target, port) for target, port in (("git-mirror", 9418), ("Kubernetes", 6443))),
    *((source, "warehouse", 443) for source in ("worker", "triggerer", "api-server", "dag-processor")),
]
# What must be refused everywhere.
FORBIDDEN = [
    ("worker", "pgbouncer", 6543),
    ("worker", "managed database", 5432),
    ("worker", "scheduler", 8793),
    ("worker", "worker", 8793),
    ("worker", "git-origin", 9418),
    ("worker", "statsd", 9102),
    ("worker", "git-mirror", 9104),
    ("worker", "triggerer", 8794),
    *(
        (source, target, port)
        for source in (*COMPONENTS, "worker", "backup", "pod-cleanup", "operations")
        for target in ("metadata server", "Azure's second one", "Alibaba's")
        for port in (80, 443)
    ),
    *((source, "warehouse", 5432) for source in ("api-server", "dag-processor", "backup")),
    *((source, "a pod elsewhere", 8080) for source in (*COMPONENTS, "worker", "backup")),
    *((source, "a Service elsewhere", 443) for source in ("worker", "triggerer", "dag-processor")),
    ("git-mirror", "pgbouncer", 6543),
    ("git-mirror", "api-server", 8080),
    ("statsd", "warehouse", 443),
    ("scheduler", "warehouse", 5432),
    *(
        ("operations", target, port)
        for target, port in (("pgbouncer", 6543), ("api-server", 8080), ("warehouse", 5432))
    ),
    ("statsd", "Kubernetes", 6443),
    ("somebody's pod", "api-server", 8080),
    ("somebody's pod", "statsd", "9125/UDP"),
    ("somebody's pod", "database", 5432),
    ("somebody's pod", "pgbouncer", 6543),
    ("somebody's pod", "git-mirror", 9418),
    ("somebody's pod", "git-mirror", 9104),
    ("prometheus", "git-mirror", 9418),
    ("prometheus", "api-server", 8080),
    ("prometheus", "pgbouncer", 6543),
    ("ingress controller", "pgbouncer", 6543),
    ("stray", "api-server", 8080),
    ("stray", "pgbouncer", 6543),
    ("stray", "database", 5432),
    ("stray", "warehouse", 443),
]
IN_DEVELOPMENT = {
    "allowed": [
        *((source, "database", 5432) for source in (*COMPONENTS, "migration", "preflight", "worker")),
        ("git-mirror", "git-origin", 9418),
        ("secrets", "Kubernetes", 6443),
    ],
    "forbidden": [("git-mirror", "database", 5432), ("statsd", "database", 5432), ("git-mirror", "warehouse", 443)],
}
IN_PRODUCTION = {
    "allowed": [
        *((source, "pgbouncer", 6543) for source in (*COMPONENTS, "pod-cleanup", "database-cleanup")),
        *((source, "managed database", 5432) for source in ("pgbouncer", "migration", "preflight")),
        ("prometheus", "pgbouncer", 9127),
        ("git-mirror", "Git server", 22),
    ],
    "forbidden": [("pgbouncer", "warehouse", 443), ("git-mirror", "warehouse", 443), ("git-mirror", "Git server", 80)],
}


def selectors() -> dict[str, dict[str, str]]:
    """Labels of the pods by name, as charts/platform/files/network.yaml gives them."""
    found: dict[str, dict[str, str]] = yaml.safe_load((ROOT / "charts/platform/files/network.yaml").read_text())["pods"]
    return found


def policies(environment: Rendered) -> list[dict[str, Any]]:
    return list(environment.all("NetworkPolicy").values())


def peer(name: str) -> Peer:
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    labels = STRAY if name == "stray" else {**selectors()[name], "release": "airflow-green"}
    return Peer(labels, NAMESPACE)


def check(environment: Rendered, pairs: list[tuple[str, str, Any]], allowed: bool) -> None:
    """A path must be open whatever ipBlocks cover, and a refused one shut whatever they cover."""
    for source, target, port in pairs:
        found = allows(policies(environment), peer(source), peer(target), port, blocks_match_pods=not allowed)
        assert found is allowed, f"{environment.environment}: {source} -> {target}:{port}"


def in_place(environment: Rendered, address: str) -> str:
    """Staging has production's addresses in another net."""
    return address.replace("10.20.", "10.30.") if environment.environment == "staging" else address


@pytest.fixture(autouse=True)
def addresses(environment: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ELSEWHERE, "managed database", Peer(address=in_place(environment, "10.20.8.5")))
    own = ("10.244.0.9", "10.96.7.7") if environment.environment == "dev" else ("10.20.3.4", "172.20.7.7")
    for name, address in zip(("a pod elsewhere", "a Service elsewhere"), own, strict=True):
        monkeypatch.setitem(ELSEWHERE, name, Peer(address=in_place(environment, address)))


def test_what_is_needed_gets_through(environment: Rendered) -> None:
    own = IN_DEVELOPMENT if environment.environment == "dev" else IN_PRODUCTION
    check(environment, ALLOWED + own["allowed"], True)


def test_what_is_not_needed_is_refused(environment: Rendered) -> None:
    own = IN_DEVELOPMENT if environment.environment == "dev" else IN_PRODUCTION
    shut = [p for p in FORBIDDEN if p not in own["allowed"]]
    if environment.environment == "dev":
        # There is no managed database whose address could be kept out.
        shut.remove(("worker", "managed database", 5432))
    check(environment, shut + own["forbidden"], False)


def test_every_pod_is_under_a_policy_of_its_own(environment: Rendered) -> None:
    """The namespace's policy refuses; a pod that no path of network.yaml names would reach nothing but DNS."""
    every, own = policies(environment), [p for p in policies(environment) if p["spec"]["podSelector"]]
    assert len(every) == len(own) + 1
    for pod in environment.pods():
        labels = pod.metadata.get("labels") or {}
        for direction in ("Ingress", "Egress"):
            assert isolated(every, labels, direction), pod.identity
            assert isolated(own, labels, direction), (
                f"{pod.identity} is no pod of charts/platform/files/network.yaml: say there whom it reaches"
            )


def test_no_policy_is_for_a_pod_that_is_gone(dev: Rendered, prod: Rendered) -> None:
    labels = [pod.metadata.get("labels") or {} for each in (dev, prod) for pod in each.pods()]
    # By commands, and where platform.operations is enabled (test_operations.py).
    made_elsewhere = {"preflight", "prober", "operations"}
    for name, selector in selectors().items():
        assert name in made_elsewhere or any(selector.items() <= each.items() for each in labels), name


@pytest.mark.parametrize("environment", ["staging", "prod"], indirect=True)  # dev takes no identity from a cloud
def test_a_metadata_server_is_reached_where_identity_comes_from_it(environment: Rendered, render: Render) -> None:
    own = {"platform": {"networkPolicy": {"identityServers": [{"cidr": "169.254.169.254/32", "ports": [80]}]}}}
    answer = render("airflow-platform", own, environment=environment.environment, only="network/networkpolicy.yaml")
    for source, found in {"worker": True, "api-server": True, "scheduler": False, "git-mirror": False}.items():
        target = peer("metadata server")
        assert allows(answer.objects, peer(source), target, 80, blocks_match_pods=False) is found, source
        assert not allows(answer.objects, peer(source), target, 22, blocks_match_pods=True)


def test_on_google_pods_reach_what_gives_them_their_identity(charts: Charts) -> None:
    found = policies(charts.environment("prod", "gcp"))
    for source in ("worker", "api-server", "backup"):
        for address, port in (("169.254.169.254", 80), ("169.254.169.252", 988)):
            assert allows(found, peer(source), Peer(address=address), port, blocks_match_pods=False), source
    assert not allows(found, peer("scheduler"), Peer(address="169.254.169.254"), 80, blocks_match_pods=True)


def test_a_load_balancer_may_stand_where_the_controller_does(environment: Rendered, render: Render) -> None:
    own = {"platform": {"networkPolicy": {"ingressNamespace": "", "ingressAddresses": [{"cidr": "10.9.0.0/16"}]}}}
    answer = render("airflow-platform", own, environment=environment.environment, only="network/networkpolicy.yaml")
    balancer, target = Peer(address="10.9.1.1"), peer("api-server")
    assert allows(answer.objects, balancer, target, 8080, blocks_match_pods=False)
    assert not allows(answer.objects, balancer, target, 22, blocks_match_pods=False)
    assert not allows(answer.objects, peer("ingress controller"), target, 8080, blocks_match_pods=False)
