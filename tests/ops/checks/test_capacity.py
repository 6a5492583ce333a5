"""What can never be scheduled is told before it is deployed; the arithmetic is that of Kubernetes."""

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_ops import scheduling
from airflow_ops.capacity import Environment
from airflow_ops.manifests import Manifest
from airflow_ops.scheduling import LimitRange, NodeShape
from support.small_checkout import Checkout

GI = 1024**3

FIVE_CORES = (
    'executor_config={"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=['
    'k8s.V1Container(name="base", resources=k8s.V1ResourceRequirements(requests={"cpu": "5"}))]))}'
)


@pytest.mark.usefixtures("helm")
class TestCommand:
    """`airflow-ops capacity` of the small checkout: 2 schedulers of 500m and 1Gi, a quota of 6 cores and 12Gi."""

    def test_what_fits_passes_and_is_added_up(self, checkout: Checkout) -> None:
        checkout.write_dag('pool="warehouse", pool_slots=2')
        answer = checkout.run("capacity", "dev", "--json")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        report = json.loads(answer.stdout)
        assert report["errors"] == report["warnings"] == []
        assert report["concurrency"] == 8, "parallelism counts per scheduler"
        assert report["fixed"] == {
            "limits.cpu": "2",
            "limits.memory": "4Gi",
            "pods": "2",
            "requests.cpu": "1",
            "requests.memory": "2Gi",
        }
        assert report["pools"] == {"default_pool": 128, "warehouse": 2}
        # 6 - 1 cores and 12 - 2 Gi and 20 - 2 pods are left.
        assert {name: size["fitsInQuota"] for name, size in report["sizes"].items()} == {"default": 18, "large": 2}
        assert report["sizes"]["default"]["tasks"] == 1, "a task that names no size is of the default one"
        assert report["sizes"]["large"]["nodes"] == ["ordinary"]

    def test_everything_that_can_never_be_scheduled(self, checkout: Checkout) -> None:
        """One run for all of it: an error must not hide another."""
        quota = {"requests.cpu": "3", "requests.memory": "100Gi", "limits.ephemeral-storage": "9Gi"}
        checkout.add_objects(
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": quota}},
            {
                "apiVersion": "v1",
                "kind": "LimitRange",
                "metadata": {"name": "most"},
                "spec": {"limits": [{"type": "Container", "max": {"memory": "6Gi"}}]},
            },
        )
        sizes: dict[str, Any] = {
            "large": {"resources": {"requests": {"cpu": "2500m"}, "limits": {"cpu": "2500m"}}},
            "memory": {
                "resources": {"requests": {"cpu": "1", "memory": "7Gi"}, "limits": {"cpu": "1", "memory": "7Gi"}}
            },
            "gpu": {
                "nodeSelector": {"gpu": "true"},
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
            },
        }
        gpu = {"name": "gpu", "cpu": "8", "memory": "32Gi", "labels": {"gpu": "true"}}
        gpu["taints"] = [{"key": "gpu", "value": "true", "effect": "NoSchedule"}]
        ordinary = {"name": "ordinary", "cpu": "4", "memory": "6Gi"}
        checkout.set("base.yaml", {"platform": {"sizes": sizes, "nodeShapes": [ordinary, gpu]}})
        checkout.write_dag(f'pool="nowhere", {FIVE_CORES}')
        template = '{"pod_template_file": "/opt/airflow/pod_templates/x.yaml"}'
        checkout.write_dag(f'pool="warehouse", pool_slots=3, executor_config={template}', "store")

        answer = checkout.run("capacity", "dev", "--json")
        assert answer.returncode == 1, answer.stderr
        errors = json.loads(answer.stdout)["errors"]
        for expected in (
            "airflow-blue/Deployment/airflow-blue-scheduler: container scheduler sets no limits.ephemeral-storage, "
            "which the ResourceQuota counts",
            "task store.run names the pod template /opt/airflow/pod_templates/x.yaml, which does not exist",
            "size memory: container base: asks for 7Gi memory, the LimitRange's max is 6Gi",
            "size memory: no node can take it: ordinary has 6Gi memory, 7Gi are requested; gpu is tainted gpu=true",
            "size gpu: no node can take it: ordinary has no label gpu=true; gpu is tainted gpu=true",
            "quota requests.cpu 3 is smaller than the components and one worker of size large: 1 + 2.5",
            "task load.run (pod_override): no node can take it: ordinary has 4 cpu, 5 are requested; "
            "gpu is tainted gpu=true",
            "task load.run (pod_override): the quota leaves no room for it beside the components",
            "task load.run names the pool 'nowhere'; dags/config/pools.yaml has default_pool, warehouse",
            "task store.run takes 3 slots of pool warehouse, which has 2",
        ):
            assert expected in errors
        assert not [e for e in errors if e.startswith(("size default: no node", "size large: no node"))]

    def test_what_cannot_run_all_at_once_is_a_warning(self, checkout: Checkout) -> None:
        checkout.set("base.yaml", {"airflow": {"parallelism": 32}, "platform": {"nodeShapes": []}})
        hard = {"requests.cpu": "6", "pods": "3"}
        checkout.add_objects(
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": hard}}
        )
        answer = checkout.run("capacity", "dev")
        assert answer.returncode == 0
        assert (
            "at once: 64 workers (parallelism 32 x 2 schedulers); pools: default_pool 128, warehouse 2" in answer.stdout
        )
        assert "warning parallelism lets 64 workers run, the quota 1 of size default" in answer.stdout
        assert "warning an upgrade runs both colours, 4 pods in all; the quota is 3" in answer.stdout
        assert "warning platform.nodeShapes is empty" in answer.stdout

    def test_tasks_of_another_executor_make_no_pods(self, checkout: Checkout) -> None:
        checkout.set("base.yaml", {"airflow": {"executor": "LocalExecutor,KubernetesExecutor"}})
        checkout.write_dag(FIVE_CORES)
        assert checkout.run("capacity", "dev").returncode == 0
        checkout.write_dag(f'executor="KubernetesExecutor", {FIVE_CORES}')
        answer = checkout.run("capacity", "dev")
        assert answer.returncode == 1
        assert "task load.run (pod_override): no node can take it" in answer.stdout

    def test_what_cannot_be_read(self, checkout: Checkout) -> None:
        (checkout.root / "dags/load.py").write_text("from airflow.sdk import dag\nraise ValueError('size huge')\n")
        answer = checkout.run("capacity", "dev")
        assert answer.returncode == 1
        assert "load.py cannot be imported: ValueError: size huge" in answer.stderr

        shape = {"name": "odd", "cpu": "four", "memory": "8Gi"}
        checkout.set("base.yaml", {"platform": {"nodeShapes": [shape]}})
        answer = checkout.run("capacity", "dev")
        assert answer.returncode == 1
        assert "platform.nodeShapes odd.cpu is 'four', which is no quantity" in answer.stderr


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


def test_the_tightest_of_several_quotas_holds() -> None:
    quotas = [
        {"metadata": {"name": "a"}, "spec": {"hard": {"cpu": "3", "limits.memory": "2Gi", "services": "3"}}},
        {"metadata": {"name": "b"}, "spec": {"hard": {"requests.cpu": "4", "count/pods": 9, "limits.memory": "1Gi"}}},
    ]
    assert scheduling.read_quota(quotas) == {"requests.cpu": 3, "pods": 9, "limits.memory": GI}


def test_an_autoscaler_counts_at_its_most_and_jobs_at_their_parallelism() -> None:
    template = {"template": {"metadata": {}, "spec": {"containers": [container({"cpu": "1"})]}}}
    scaled = {"scaleTargetRef": {"kind": "Deployment", "name": "scaled"}, "minReplicas": 2, "maxReplicas": 5}
    objects = [
        ("ConfigMap", "config", {"data": {"airflow.cfg": "[core]\nexecutor = KubernetesExecutor\n"}}),
        ("Deployment", "scaled", {"spec": template}),
        ("HorizontalPodAutoscaler", "scaled", {"spec": scaled}),
        ("StatefulSet", "three", {"spec": template | {"replicas": 3}}),
        ("CronJob", "nightly", {"spec": {"jobTemplate": {"spec": template}}}),
        ("Job", "twofold", {"spec": template | {"parallelism": 2}}),
    ]
    manifests = [
        Manifest("airflow-blue", "airflow-dev", {"kind": kind, "metadata": {"name": name}, **rest})
        for kind, name, rest in objects
    ]
    counts = {pod.manifest.name: count for pod, count in Environment(manifests, {}).components()}
    assert counts == {"scaled": 5, "three": 3, "nightly": 1, "twofold": 2}
