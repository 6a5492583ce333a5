"""Whether tasks can reach the cluster itself: its nodes, other namespaces' pods, Services and Kubernetes' API."""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import err, styled
from airflow_ops.manifests.objects import Manifest

WORKER_POLICY = "airflow-worker"
KEY = "platform.networkPolicy.clusterAddresses"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def warn_of_open(cluster: Cluster, manifests: list[Manifest]) -> None:
    """Print a warning for the cluster's addresses that the policy of tasks lets through with those of the Internet.

    Which addresses a cluster has is no matter of values/, so that only the cluster can tell whether the key is right.
    An address that an entry of its own allows is meant to be reached, and is not named.

    Args:
        cluster: The environment.
        manifests: Its manifests, as they will be applied.
    """
    policy = next((m.object for m in manifests if (m.kind, m.name) == ("NetworkPolicy", WORKER_POLICY)), None)
    if policy is None:
        return
    reached = [what for addresses, what in _addresses(cluster) if is_open(policy, addresses)]
    if reached:
        more = f" and {len(reached) - 3} more" if len(reached) > 3 else ""
        err.print(
            styled("warning", "yellow"),
            f"tasks reach {', '.join(reached[:3])}{more}, since an entry of platform.networkPolicy.outside has every "
            f"address: add the ranges of this cluster's nodes, pods and Services to {KEY}",
        )


def is_open(policy: dict[str, Any], addresses: str) -> bool:
    """Whether an egress rule for every address covers any of these.

    Args:
        policy: A NetworkPolicy.
        addresses: An IP address, or a range of them in CIDR notation.

    Raises:
        ValueError: It is neither.
    """
    wanted = ipaddress.ip_network(addresses, strict=False)
    rules = policy["spec"].get("egress") or []
    blocks = [peer["ipBlock"] for rule in rules for peer in rule.get("to") or [] if peer.get("ipBlock")]
    return any(
        _has_every(block["cidr"], wanted) and not _kept_out(wanted, block.get("except") or []) for block in blocks
    )


def _has_every(cidr: str, wanted: Network) -> bool:
    """Whether a range is every address, or one of the two halves that are, and holds a part of the wanted one."""
    block = ipaddress.ip_network(cidr, strict=False)
    return block.prefixlen <= 1 and block.version == wanted.version and block.overlaps(wanted)


def _kept_out(wanted: Network, exceptions: Iterable[str]) -> bool:
    """Whether the exceptions together hold all of the wanted range."""
    left = [wanted]
    for each in exceptions:
        kept_out = ipaddress.ip_network(each, strict=False)
        left = [part for network in left for part in _without(network, kept_out)]
    return not left


def _without(network: Network, kept_out: Network) -> list[Network]:
    """What is left of a range when another one is taken out of it."""
    if network.version != kept_out.version or not network.overlaps(kept_out):
        return [network]
    if network.prefixlen >= kept_out.prefixlen:
        return []
    return list(network.address_exclude(kept_out))  # type: ignore[arg-type]


def _addresses(cluster: Cluster) -> list[tuple[str, str]]:
    """Addresses and ranges of the cluster, each with what it is of.

    This is for a warning only, so what cannot be read is left out and named; it never ends a deploy.
    """
    found: list[tuple[str, str]] = []
    reads: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "nodes": lambda: _of_nodes(cluster.core.list_node().items),
        "Services": lambda: _of_services(cluster.core.list_namespaced_service("default").items),
    }
    for what, read in reads.items():
        try:
            found += read()
        except ApiException as error:
            err.print(f"{what}: not read ({error.reason}), so {KEY} is not compared with their addresses")
    return [(addresses, text) for addresses, text in found if _is_network(addresses)]


def _is_network(text: str) -> bool:
    """Whether this is an address or a range: some clouds list names, and link-local addresses with their interface."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _of_nodes(nodes: Iterable[Any]) -> list[tuple[str, str]]:
    found = []
    for node in nodes:
        name = node.metadata.name
        found += [
            (a.address, f"{a.address} (node {name})") for a in node.status.addresses or [] if a.type.endswith("IP")
        ]
        found += [(cidr, f"{cidr} (pods of node {name})") for cidr in node.spec.pod_cidrs or []]
    return found


def _of_services(services: Iterable[Any]) -> list[tuple[str, str]]:
    return [
        (address, f"{address} (Service {service.metadata.name})")
        for service in services
        for address in service.spec.cluster_ips or []
    ]
