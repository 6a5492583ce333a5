"""`airflow-ops capacity` names what can never be scheduled, before it is deployed."""

import json
from typing import Any

import pytest

from airflow_ops.checks.assessment import Demand
from airflow_ops.manifests.objects import Manifest
from support.small_checkout import Checkout

FIVE_CORES = (
    'executor_config={"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=['
    'k8s.V1Container(name="base", resources=k8s.V1ResourceRequirements(requests={"cpu": "5"}))]))}'
)


def quota(operator: str, hard: dict[str, str]) -> dict[str, Any]:
    """A quota of workers (In), or of everything else (NotIn)."""
    scope = {"scopeName": "PriorityClass", "operator": operator, "values": ["worker"]}
    spec = {"hard": hard, "scopeSelector": {"matchExpressions": [scope]}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": operator.lower()}, "spec": spec}


@pytest.mark.usefixtures("helm")
class TestCommand:
    """`airflow-ops capacity` of the small checkout: 2 schedulers of 500m and 1Gi, a quota, and one of tasks."""

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
        assert report["quota"] == {"pods": "20", "requests.cpu": "6", "requests.memory": "12Gi"}
        assert report["taskQuota"] == {"pods": "18", "requests.cpu": "5", "requests.memory": "10Gi"}
        assert {name: size["fitsInQuota"] for name, size in report["sizes"].items()} == {"default": 18, "large": 2}
        assert report["sizes"]["default"]["tasks"] == 1, "a task that names no size is of the default one"
        assert report["sizes"]["large"]["nodes"] == ["ordinary"]

    def test_everything_that_can_never_be_scheduled(self, checkout: Checkout) -> None:
        """One run for all of it: an error must not hide another."""
        hard = {"requests.cpu": "3", "requests.memory": "100Gi", "limits.ephemeral-storage": "9Gi"}
        checkout.add_objects(
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": hard}},
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
            "size memory: it fits on no node: ordinary has 6Gi memory, 7Gi are requested; gpu is tainted gpu=true",
            "size gpu: it fits on no node: ordinary has no label gpu=true; gpu is tainted gpu=true",
            "quota requests.cpu 3 is smaller than what runs beside workers and one of size large: 1 + 2.5",
            "0 workers of size large fill the quota, parallelism allows 8, and then no component that ends can start "
            "again: give tasks a quota of their own (platform.quota.tasks)",
            "task load.run (pod_override): it fits on no node: ordinary has 4 cpu, 5 are requested; "
            "gpu is tainted gpu=true",
            "task load.run (pod_override): the quota leaves no room for it",
            "task load.run names the pool 'nowhere'; dags/config/pools.yaml has default_pool, warehouse",
            "task store.run takes 3 slots of pool warehouse, which has 2",
        ):
            assert expected in errors
        assert not [e for e in errors if e.startswith(("size default: it fits", "size large: it fits"))]

    def test_what_cannot_run_all_at_once_is_a_warning(self, checkout: Checkout) -> None:
        checkout.set("base.yaml", {"airflow": {"parallelism": 32}, "platform": {"nodeShapes": []}})
        checkout.add_objects(quota("NotIn", {"requests.cpu": "6", "pods": "3"}), quota("In", {"pods": "1"}))
        answer = checkout.run("capacity", "dev")
        assert answer.returncode == 0
        assert (
            "at once: 64 workers (parallelism 32 x 2 schedulers); pools: default_pool 128, warehouse 2" in answer.stdout
        )
        assert "warning parallelism allows 64 workers, the quota only 1 of size default" in answer.stdout
        assert "warning an upgrade runs both colours and needs 4 pods; the quota is 3" in answer.stdout
        assert "warning platform.nodeShapes is empty" in answer.stdout

    def test_tasks_of_another_executor_make_no_pods(self, checkout: Checkout) -> None:
        checkout.set("base.yaml", {"airflow": {"executor": "LocalExecutor,KubernetesExecutor"}})
        checkout.write_dag(FIVE_CORES)
        assert checkout.run("capacity", "dev").returncode == 0
        checkout.write_dag(f'executor="KubernetesExecutor", {FIVE_CORES}')
        answer = checkout.run("capacity", "dev")
        assert answer.returncode == 1
        assert "task load.run (pod_override): it fits on no node" in answer.stdout

    def test_what_cannot_be_read(self, checkout: Checkout) -> None:
        (checkout.root / "dags/load.py").write_text("from airflow.sdk import dag\nraise ValueError('size huge')\n")
        answer = checkout.run("capacity", "dev")
        assert answer.returncode == 1
        assert "load.py cannot be imported: ValueError: size huge" in answer.stderr

        shape = {"name": "odd", "cpu": "four", "memory": "8Gi"}
        checkout.set("base.yaml", {"platform": {"nodeShapes": [shape]}})
        answer = checkout.run("capacity", "dev")
        assert answer.returncode == 1
        assert "platform.nodeShapes odd.cpu is 'four', which is not a quantity" in answer.stderr


def test_an_autoscaler_counts_at_its_most_and_jobs_at_their_parallelism() -> None:
    container = {"name": "c", "resources": {"requests": {"cpu": "1"}}}
    template = {"template": {"metadata": {}, "spec": {"containers": [container]}}}
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
    counts = {pod.manifest.name: count for pod, count in Demand(manifests, {}).components()}
    assert counts == {"scaled": 5, "three": 3, "nightly": 1, "twofold": 2}
