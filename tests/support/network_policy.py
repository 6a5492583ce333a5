"""What NetworkPolicies let through, worked out from rendered manifests.

By the rules of the Kubernetes documentation, "Network Policies": a pod that no policy of a direction selects is open in
it; policies add up; a connection needs the sender's egress and the receiver's ingress. Whether an ipBlock covers the
addresses of pods is left to the network plug-in there, so `allows` takes it as an argument.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

POD_ADDRESS = "10.244.0.9"


@dataclass(frozen=True)
class Peer:
    """One end of a connection: a pod with its labels and namespace, or an address outside of the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = ""
    address: str = POD_ADDRESS

    @property
    def is_pod(self) -> bool:
        return bool(self.namespace)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything."""
    unknown = selector.keys() - {"matchLabels"}
    assert not unknown, f"this evaluator does not know {unknown}"
    return (selector.get("matchLabels") or {}).items() <= labels.items()


def _is_named(rule_peer: dict[str, Any], peer: Peer, own_namespace: str, blocks_match_pods: bool) -> bool:
    block = rule_peer.get("ipBlock")
    if block:
        address = ipaddress.ip_address(peer.address)
        within = address in ipaddress.ip_network(block["cidr"])
        kept_out = any(address in ipaddress.ip_network(each) for each in block.get("except") or [])
        return within and not kept_out and (blocks_match_pods or not peer.is_pod)
    if not peer.is_pod:
        return False
    of_namespace = rule_peer.get("namespaceSelector")
    if of_namespace is None:
        right_namespace = peer.namespace == own_namespace
    else:
        right_namespace = selects(of_namespace, {"kubernetes.io/metadata.name": peer.namespace})
    return right_namespace and selects(rule_peer.get("podSelector") or {}, peer.labels)


def _has_port(ports: list[dict[str, Any]] | None, port: int, protocol: str) -> bool:
    if not ports:
        return True
    assert not any("endPort" in each or isinstance(each["port"], str) for each in ports), "not known here"
    return any(each["port"] == port and each.get("protocol", "TCP") == protocol for each in ports)


def _lets(
    policies: list[dict[str, Any]],
    direction: str,
    own: Peer,
    other: Peer,
    port: tuple[int, str],
    blocks_match_pods: bool,
) -> bool:
    mine = [
        policy
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], own.labels)
    ]
    if not mine:
        return True
    side = {"Ingress": "from", "Egress": "to"}[direction]
    return any(
        _has_port(rule.get("ports"), *port)
        and (not rule.get(side) or any(_is_named(p, other, own.namespace, blocks_match_pods) for p in rule[side]))
        for policy in mine
        for rule in policy["spec"].get(direction.lower()) or []
    )


def allows(
    policies: list[dict[str, Any]], source: Peer, target: Peer, port: str | int, *, blocks_match_pods: bool
) -> bool:
    """Whether a connection gets through.

    Args:
        policies: The NetworkPolicies of one namespace, `namespace` of the pods that they may select.
        source: Who connects.
        target: What is connected to.
        port: A number, with /UDP where it is not TCP.
        blocks_match_pods: Whether an ipBlock covers pods' addresses, too.
    """
    number, _, protocol = str(port).partition("/")
    wanted = (int(number), protocol or "TCP")
    own = {source.namespace, target.namespace} & {"airflow"}
    assert own, "one end must be in the namespace of the policies, called airflow here"
    sends = source.namespace != "airflow" or _lets(policies, "Egress", source, target, wanted, blocks_match_pods)
    takes = target.namespace != "airflow" or _lets(policies, "Ingress", target, source, wanted, blocks_match_pods)
    return sends and takes


def isolated(policies: list[dict[str, Any]], labels: dict[str, str], direction: str) -> bool:
    """Whether at least one policy selects a pod in a direction, so that what is not allowed is refused."""
    return any(
        direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], labels)
        for policy in policies
    )
