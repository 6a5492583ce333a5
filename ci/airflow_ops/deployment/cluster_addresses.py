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
FORBIDDEN = 403


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
    reached = [what for address, what in _addresses(cluster) if is_open(policy, address)]
    if reached:
        more = f" and {len(reached) - 3} more" if len(reached) > 3 else ""
        err.print(
            styled("warning", "yellow"),
            f"tasks reach {', '.join(reached[:3])}{more}, since an entry of platform.networkPolicy.outside has every "
            f"address: add the ranges of this cluster's nodes, pods and Services to {KEY}",
        )


def is_open(policy: dict[str, Any], address: str) -> bool:
    """Whether an egress rule for every address covers this one.

    Args:
        policy: A NetworkPolicy.
        address: An IP address.
    """
    wanted = ipaddress.ip_address(address)
    blocks = [
        peer["ipBlock"] for rule in policy["spec"].get("egress", []) for peer in rule.get("to", []) if "ipBlock" in peer
    ]
    return any(
        block["cidr"].endswith("/0")
        and wanted in ipaddress.ip_network(block["cidr"])
        and not any(wanted in ipaddress.ip_network(kept_out) for kept_out in block.get("except", []))
        for block in blocks
    )


def _addresses(cluster: Cluster) -> list[tuple[str, str]]:
    """Addresses of the cluster, each with what it is of. Those that this user may not read are left out, and named."""
    found: list[tuple[str, str]] = []
    reads: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "nodes": lambda: _of_nodes(cluster.core.list_node().items),
        "Services": lambda: _of_services(cluster.core.list_namespaced_service("default").items),
    }
    for what, read in reads.items():
        try:
            found += read()
        except ApiException as error:
            if error.status != FORBIDDEN:
                raise
            err.print(f"{what}: may not be read, so {KEY} is not compared with their addresses")
    return found


def _of_nodes(nodes: Iterable[Any]) -> list[tuple[str, str]]:
    found = []
    for node in nodes:
        name = node.metadata.name
        found += [
            (a.address, f"{a.address} (node {name})") for a in node.status.addresses or [] if a.type.endswith("IP")
        ]
        for cidr in node.spec.pod_cidrs or []:
            first = str(ipaddress.ip_network(cidr).network_address)
            found.append((first, f"{cidr} (pods of node {name})"))
    return found


def _of_services(services: Iterable[Any]) -> list[tuple[str, str]]:
    return [
        (address, f"{address} (Service {service.metadata.name})")
        for service in services
        for address in service.spec.cluster_ips or []
        if address != "None"
    ]
