"""Which Secrets a pod reads, whether its spec was rendered by Helm or read from a cluster."""

from collections.abc import Iterator
from typing import Any


def named_secrets(spec: Any, *, optional: bool = True) -> set[str]:
    """Names of the Secrets that a pod reads.

    Args:
        spec: Its spec as plain maps and lists, with the keys of the Kubernetes API.
        optional: Whether to include optional Secrets, without which the pod starts as well.
    """
    references = [
        value
        for key, value in _keys(spec)
        if key in ("secretRef", "secretKeyRef", "secret") and isinstance(value, dict)
        if optional or not value.get("optional")
    ]
    return {name for reference in references if (name := reference.get("name") or reference.get("secretName"))}


def _keys(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a nested structure with its value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from _keys(value)
    elif isinstance(node, list):
        for item in node:
            yield from _keys(item)
