"""The arithmetic of the Kubernetes scheduler and of admission: what a pod needs, and what would refuse it.

Rules: Kubernetes documentation, "Resource Quotas", "Limit Ranges", "Assigning Pods to Nodes", "Taints and Tolerations",
and "Sidecar Containers" for init containers. Units: CPU in cores, memory and storage in bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from airflow_ops.console import fail
from airflow_ops.manifests.objects import Object

COMPUTE = ("cpu", "memory", "ephemeral-storage")

Load = dict[str, Decimal]
"""Amounts by the keys of a ResourceQuota (requests.cpu, limits.memory, pods); a key that is missing is not set."""


def quantity(text: str | float, key: str) -> Decimal:
    """Read a quantity as Kubernetes does.

    Args:
        text: For example 250m or 1Gi.
        key: The key that it belongs to, for the error.

    Raises:
        ProblemError: It is not a quantity.
    """
    try:
        return Decimal(parse_quantity(text))
    except ValueError as error:
        raise fail(f"{key} is {text!r}, which is not a quantity.", "Write it as 250m, 2, 512Mi or 1Gi.") from error


def add(loads: Iterable[Load]) -> Load:
    """The sum of several loads."""
    total: Load = {}
    for load in loads:
        for key, amount in load.items():
            total[key] = total.get(key, Decimal(0)) + amount
    return total


def times(load: Load, count: int) -> Load:
    """A load multiplied by a count."""
    return {key: amount * count for key, amount in load.items()}


def highest(loads: Iterable[Load]) -> Load:
    """The highest of several loads, key by key."""
    top: Load = {}
    for load in loads:
        for key, amount in load.items():
            top[key] = max(top.get(key, amount), amount)
    return top


@dataclass(frozen=True)
class LimitRange:
    """The LimitRanges of a namespace for containers and pods; its loads have plain resource names as keys.

    Attributes:
        items: Type (Container or Pod) to field (max, min, default, defaultRequest, maxLimitRequestRatio) to amounts.
    """

    items: dict[str, dict[str, Load]] = field(default_factory=dict)

    @classmethod
    def read(cls, objects: Iterable[Object]) -> "LimitRange":
        """Read LimitRange objects, and set the defaults that the API server adds to them.

        Raises:
            ProblemError: One has a value that is not a quantity.
        """
        items: dict[str, dict[str, Load]] = {}
        for item in (i for o in objects for i in o["spec"]["limits"]):
            amounts = {
                name: {
                    r: quantity(q, f"LimitRange {item['type']}.{name}.{r}") for r, q in (item.get(name) or {}).items()
                }
                for name in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
            }
            if item["type"] == "Container":
                amounts["default"] = amounts["max"] | amounts["default"]
                amounts["defaultRequest"] = amounts["min"] | amounts["default"] | amounts["defaultRequest"]
            items[item["type"]] = amounts
        return cls(items)

    def of(self, kind: str, name: str) -> Load:
        """The amounts of one field for Container or Pod; empty if the field is not set."""
        return self.items.get(kind, {}).get(name, {})


def container_load(container: Object, limits: LimitRange) -> Load:
    """Requests and limits of a container after admission, which fills in the defaults of a LimitRange.

    Raises:
        ProblemError: One of them is not a quantity.
    """
    own = container.get("resources") or {}
    load: Load = {}
    for part in ("requests", "limits"):
        for name, text in (own.get(part) or {}).items():
            load[f"{part}.{name}"] = quantity(text, f"{container.get('name')}: resources.{part}.{name}")
    for name in COMPUTE:
        if f"limits.{name}" in load:
            load.setdefault(f"requests.{name}", load[f"limits.{name}"])
        if name in limits.of("Container", "default"):
            load.setdefault(f"limits.{name}", limits.of("Container", "default")[name])
        if name in limits.of("Container", "defaultRequest"):
            load.setdefault(f"requests.{name}", limits.of("Container", "defaultRequest")[name])
    return load


def pod_load(spec: Object, limits: LimitRange) -> Load:
    """What one pod uses of a quota, `pods: 1` included.

    Init containers run one after another before the others, so only the highest counts. Those with restartPolicy
    Always are sidecars, which keep running.
    """
    sidecars: list[Load] = []
    starts: list[Load] = []
    for container in spec.get("initContainers") or []:
        load = container_load(container, limits)
        if container.get("restartPolicy") == "Always":
            sidecars.append(load)
        else:
            starts.append(add([*sidecars, load]))
    runs = add([*sidecars, *(container_load(c, limits) for c in spec.get("containers") or [])])
    return highest([runs, *starts]) | {"pods": Decimal(1)}


def refused_by_limit_range(spec: Object, limits: LimitRange) -> list[str]:
    """Why a LimitRange refuses a pod; empty if it does not."""
    reasons = []
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        load = container_load(container, limits)
        name = container.get("name")
        reasons += [f"container {name}: {reason}" for reason in _outside(load, limits, "Container")]
    return reasons + [f"the pod: {reason}" for reason in _outside(pod_load(spec, limits), limits, "Pod")]


def _outside(load: Load, limits: LimitRange, kind: str) -> list[str]:
    """The rules of the LimitRanger plugin: max needs a limit, min needs a request, a ratio needs both."""
    return [
        *_above(load, limits.of(kind, "max")),
        *_below(load, limits.of(kind, "min")),
        *_too_far_apart(load, limits.of(kind, "maxLimitRequestRatio")),
    ]


def _above(load: Load, bounds: Load) -> Iterator[str]:
    for name, most in bounds.items():
        amount = max((load[k] for k in (f"limits.{name}", f"requests.{name}") if k in load), default=Decimal(0))
        if f"limits.{name}" not in load:
            yield f"sets no limits.{name}, which a LimitRange with a max requires"
        elif amount > most:
            yield f"asks for {show(name, amount)} {name}, the LimitRange's max is {show(name, most)}"


def _below(load: Load, bounds: Load) -> Iterator[str]:
    for name, least in bounds.items():
        amount = load.get(f"requests.{name}")
        if amount is None:
            yield f"sets no requests.{name}, which a LimitRange with a min requires"
        elif amount < least:
            yield f"asks for {show(name, amount)} {name}, the LimitRange's min is {show(name, least)}"


def _too_far_apart(load: Load, bounds: Load) -> Iterator[str]:
    for name, ratio in bounds.items():
        limit, request = load.get(f"limits.{name}"), load.get(f"requests.{name}")
        if not limit or not request or limit / request > ratio:
            yield f"limits.{name} is more than {ratio:f} times requests.{name}, the LimitRange's maxLimitRequestRatio"


QUOTA_NAMES = {"cpu": "requests.cpu", "memory": "requests.memory", "ephemeral-storage": "requests.ephemeral-storage"}


def counts(quota: Object, spec: Object) -> bool:
    """Whether a ResourceQuota counts a pod.

    Args:
        quota: The ResourceQuota.
        spec: The pod's spec, for its priority class.

    Raises:
        ProblemError: It has a scope other than that of priority classes.
    """
    scopes = (quota["spec"].get("scopeSelector") or {}).get("matchExpressions") or []
    if quota["spec"].get("scopes") or any(scope["scopeName"] != "PriorityClass" for scope in scopes):
        raise fail(
            f"ResourceQuota {quota['metadata']['name']} has scopes that `capacity` does not support.",
            "Use a scopeSelector for PriorityClass, or none.",
        )
    priority = spec.get("priorityClassName")

    def holds(scope: Mapping[str, Any]) -> bool:
        is_asked = priority in scope["values"] if scope["operator"].endswith("In") else bool(priority)
        return is_asked is not (scope["operator"] in ("NotIn", "DoesNotExist"))

    return all(holds(scope) for scope in scopes)


def read_quota(objects: Iterable[Object]) -> Load:
    """The lowest of some quotas for each key; keys that pods do not use are left out.

    Raises:
        ProblemError: One has a value that is not a quantity.
    """
    quota: Load = {}
    for item in objects:
        for key, text in (item["spec"].get("hard") or {}).items():
            name = QUOTA_NAMES.get(key, "pods" if key == "count/pods" else key)
            part, _, resource = name.partition(".")
            if name == "pods" or (part in ("requests", "limits") and resource in COMPUTE):
                amount = quantity(text, f"ResourceQuota {item['metadata']['name']}: {key}")
                quota[name] = min(quota.get(name, amount), amount)
    return quota


def unset_for_quota(spec: Object, limits: LimitRange, quota: Load) -> list[str]:
    """The keys of a quota that a container of the pod does not set: the API server refuses such a pod."""
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return [
        f"container {container.get('name')} sets no {key}, which the ResourceQuota counts"
        for container in containers
        for key in quota
        if key != "pods" and key not in container_load(container, limits)
    ]


@dataclass(frozen=True)
class NodeShape:
    """One kind of node that the cluster has, or that its autoscaler can add.

    Attributes:
        name: Its name in an error.
        allocatable: cpu, memory and ephemeral-storage that one node has for pods; a missing one is not checked.
        labels: Labels of its nodes.
        taints: Taints of its nodes: key, value, effect.
    """

    name: str
    allocatable: Load
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]

    @classmethod
    def read(cls, shape: Mapping[str, Any]) -> "NodeShape":
        """Read an entry of platform.nodeShapes.

        Raises:
            ProblemError: An amount is not a quantity.
        """
        keys = {"cpu": "cpu", "memory": "memory", "ephemeralStorage": "ephemeral-storage"}
        name = str(shape["name"])
        return cls(
            name,
            {
                ours: quantity(shape[key], f"platform.nodeShapes {name}.{key}")
                for key, ours in keys.items()
                if key in shape
            },
            shape.get("labels") or {},
            tuple(shape.get("taints") or ()),
        )

    def refuses(self, spec: Object, load: Load) -> str:
        """Why no node of this shape can ever take a pod; empty if one can.

        Args:
            spec: The pod's spec, for its selectors and tolerations.
            load: What the pod needs.
        """
        for key, value in (spec.get("nodeSelector") or {}).items():
            if self.labels.get(key) != value:
                return f"has no label {key}={value}"
        if not _affinity_allows(spec, self.labels):
            return "does not match the required node affinity"
        for taint in self.taints:
            if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerated(
                taint, spec.get("tolerations") or []
            ):
                return f"is tainted {taint['key']}={taint.get('value', '')}"
        for name, has in self.allocatable.items():
            needs = load.get(f"requests.{name}", Decimal(0))
            if needs > has:
                return f"has {show(name, has)} {name}, {show(name, needs)} are requested"
        return ""


def _tolerated(taint: Mapping[str, str], tolerations: Iterable[Mapping[str, str]]) -> bool:
    return any(
        toleration.get("key") in (None, "", taint["key"])
        and toleration.get("effect") in (None, "", taint["effect"])
        and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""))
        for toleration in tolerations
    )


def _affinity_allows(spec: Object, labels: Mapping[str, str]) -> bool:
    node = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not node:
        return True
    return any(
        all(_matches(expression, labels) for expression in term.get("matchExpressions") or [])
        for term in node["nodeSelectorTerms"]
    )


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(values[0])
        case "Lt":
            return value is not None and int(value) < int(values[0])
        case other:
            raise fail(f"node affinity has the operator {other!r}.", "Use In, NotIn, Exists, DoesNotExist, Gt or Lt.")


def show(name: str, amount: Decimal) -> str:
    """An amount in the largest unit that keeps it short.

    Args:
        name: cpu, memory, requests.memory, pods and so on.
        amount: Cores, bytes or a count.
    """
    if name.endswith(("memory", "storage")):
        for suffix, size in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
            if abs(amount) >= size:
                return f"{_short(amount / size)}{suffix}"
    return _short(amount)


def _short(amount: Decimal) -> str:
    return f"{amount:.2f}".rstrip("0").rstrip(".")
