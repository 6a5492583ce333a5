"""What a pod counts for, what a LimitRange or a quota allows, and which nodes take it, by the rules of Kubernetes."""

from decimal import Decimal
from typing import Any

import pytest

from airflow_ops.checks import scheduling
from airflow_ops.checks.scheduling import LimitRange, NodeShape
from airflow_ops.console import ProblemError

GI = 1024**3


def container(
    requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **more: str
) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def test_init_containers_count_by_the_highest_and_sidecars_stay() -> None:
    spec = {
        "initContainers": [
            container({"cpu": "3"}),
            container({"cpu": "250m", "memory": "1Gi"}, restartPolicy="Always"),
            container({"cpu": "1", "memory": "4Gi"}),
        ],
        "containers": [container({"cpu": "500m", "memory": "1Gi"}), container({"cpu": "0.5"})],
    }
    load = scheduling.pod_load(spec, LimitRange())
    # Cores: 3 in the first init container, 1.25 in the second, 1.25 while running. Memory: 4 + 1 GiB in the second.
    assert load == {"requests.cpu": 3, "requests.memory": 5 * GI, "pods": 1}


def test_a_missing_request_is_the_limit_and_then_the_namespaces_default() -> None:
    limits = LimitRange.read(
        [{"spec": {"limits": [{"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"memory": "1Gi"}}]}}]
    )
    load = scheduling.container_load(container(limits={"memory": "3Gi"}), limits)
    assert load == {"requests.cpu": 2, "limits.cpu": 2, "requests.memory": 3 * GI, "limits.memory": 3 * GI}


@pytest.mark.parametrize(
    ("item", "spec", "reason"),
    [
        ({"max": {"cpu": "2"}}, container({"cpu": "1"}, {"cpu": "2"}), None),
        ({"max": {"cpu": "2"}}, container({"cpu": "1"}, {"cpu": "2001m"}), "asks for 2 cpu, the LimitRange's max is 2"),
        ({"min": {"memory": "64Mi"}}, container({"memory": "32Mi"}), "the LimitRange's min is 64Mi"),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            container({"cpu": "1"}, {"cpu": "3"}),
            "more than 2 times requests.cpu",
        ),
        ({"maxLimitRequestRatio": {"cpu": "3"}}, container({"cpu": "1"}, {"cpu": "3"}), None),
    ],
)
def test_limit_range(item: dict[str, Any], spec: dict[str, Any], reason: str | None) -> None:
    limits = LimitRange.read([{"spec": {"limits": [{"type": "Container"} | item]}}])
    reasons = scheduling.refused_by_limit_range({"containers": [spec]}, limits)
    assert reasons == [] if reason is None else reason in reasons[0]


def test_a_limit_range_for_pods_looks_at_the_sum() -> None:
    limits = LimitRange.read([{"spec": {"limits": [{"type": "Pod", "max": {"cpu": "3"}}]}}])
    two = {"cpu": "2"}
    assert scheduling.refused_by_limit_range({"containers": [container(two, two)]}, limits) == []
    [reason] = scheduling.refused_by_limit_range({"containers": [container(two, two)] * 2}, limits)
    assert reason == "the pod: asks for 4 cpu, the LimitRange's max is 3"


SPOT = NodeShape(
    "spot",
    {"cpu": Decimal(4)},
    {"pool": "spot", "cores": "4"},
    ({"key": "life", "value": "spot", "effect": "NoSchedule"}, {"key": "old", "effect": "PreferNoSchedule"}),
)
TOLERATES = {"key": "life", "operator": "Equal", "value": "spot", "effect": "NoSchedule"}


def required(*expressions: dict[str, Any]) -> dict[str, Any]:
    terms = [{"matchExpressions": [expression]} for expression in expressions]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


@pytest.mark.parametrize(
    ("spec", "refusal"),
    [
        ({"tolerations": [TOLERATES]}, ""),
        ({"tolerations": [{"operator": "Exists"}]}, ""),
        ({"tolerations": [{"key": "life", "operator": "Exists"}]}, ""),
        ({"tolerations": [TOLERATES | {"value": "long"}]}, "is tainted life=spot"),
        ({"tolerations": [TOLERATES | {"effect": "NoExecute"}]}, "is tainted life=spot"),
        ({}, "is tainted life=spot"),
        ({"tolerations": [TOLERATES], "nodeSelector": {"pool": "spot"}}, ""),
        ({"tolerations": [TOLERATES], "nodeSelector": {"pool": "other"}}, "has no label pool=other"),
        ({"tolerations": [TOLERATES], "affinity": required({"key": "pool", "operator": "In", "values": ["spot"]})}, ""),
        ({"tolerations": [TOLERATES], "affinity": required({"key": "cores", "operator": "Gt", "values": ["3"]})}, ""),
        (
            {
                "tolerations": [TOLERATES],
                "affinity": required({"key": "pool", "operator": "NotIn", "values": ["spot"]}),
            },
            "does not match the required node affinity",
        ),
        (
            {
                "tolerations": [TOLERATES],
                "affinity": required(
                    {"key": "pool", "operator": "DoesNotExist"}, {"key": "pool", "operator": "Exists"}
                ),
            },
            "",
        ),
    ],
)
def test_nodes_take_what_selects_and_tolerates_them(spec: dict[str, Any], refusal: str) -> None:
    assert SPOT.refuses(spec, {"requests.cpu": Decimal(4)}) == refusal


def test_a_node_is_too_small() -> None:
    spec = {"tolerations": [TOLERATES]}
    assert SPOT.refuses(spec, {"requests.cpu": Decimal("4.5")}) == "has 4 cpu, 4.5 are requested"


@pytest.mark.parametrize(
    ("operator", "values", "task", "component", "without"),
    [
        ("In", ["worker"], True, False, False),
        ("NotIn", ["worker"], False, True, True),
        ("Exists", [], True, True, False),
        ("DoesNotExist", [], False, False, True),
    ],
)
def test_a_quota_counts_pods_by_their_priority_class(
    operator: str, values: list[str], task: bool, component: bool, without: bool
) -> None:
    scope = {"scopeName": "PriorityClass", "operator": operator, "values": values}
    quota = {"metadata": {"name": "a"}, "spec": {"scopeSelector": {"matchExpressions": [scope]}}}
    assert scheduling.counts(quota, {"priorityClassName": "worker"}) is task
    assert scheduling.counts(quota, {"priorityClassName": "system"}) is component
    assert scheduling.counts(quota, {}) is without


@pytest.mark.parametrize(
    "scope", [{"scopes": ["BestEffort"]}, {"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating"}]}}]
)
def test_another_scope_is_not_guessed(scope: dict[str, Any]) -> None:
    with pytest.raises(ProblemError, match="ResourceQuota a has scopes that `capacity` does not support"):
        scheduling.counts({"metadata": {"name": "a"}, "spec": scope}, {})


def test_the_tightest_of_several_quotas_holds() -> None:
    quotas = [
        {"metadata": {"name": "a"}, "spec": {"hard": {"cpu": "3", "limits.memory": "2Gi", "services": "3"}}},
        {"metadata": {"name": "b"}, "spec": {"hard": {"requests.cpu": "4", "count/pods": 9, "limits.memory": "1Gi"}}},
    ]
    assert scheduling.read_quota(quotas) == {"requests.cpu": 3, "pods": 9, "limits.memory": GI}
