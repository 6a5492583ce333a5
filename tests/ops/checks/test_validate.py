"""What validate finds, each check with something that passes it and something that does not."""

import json
import re
from typing import Any

import pytest

from support.small_checkout import Checkout, make_checkout

pytestmark = [
    pytest.mark.usefixtures("helm", "kubeconform"),
    pytest.mark.xdist_group("validate"),  # what the module makes is made once
]

MONITOR = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "ServiceMonitor",
    "metadata": {"name": "statsd"},
    "spec": {"selector": {}, "endpoints": [{"port": 9102}]},
}


def workload(kind: str, spec: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """A workload that breaks no rule but through what is given."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "mine"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"automountServiceAccountToken": False} | spec},
        }
        | extra,
    }


GOOD = {
    "name": "main",
    "image": "example.com:5000/image@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "livenessProbe": {"exec": {"command": ["true"]}},
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    "env": [
        {"name": "DATABASE_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}},
        {"name": "PASSWORD_FILE", "value": "/run/secrets/password"},
        {"name": "ORIGIN", "value": "https://example.com:443/dags.git"},
    ],
    "securityContext": {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    },
}


CARELESS = {
    "name": "careless",
    "image": "registry:5000/image",
    "env": [
        {"name": "API_TOKEN", "value": "abc"},
        {"name": "DSN", "value": "postgresql://airflow:swordfish@db/airflow"},
    ],
    "args": ["--url", "https://user:swordfish@example.com"],
}
PRIVILEGED = GOOD | {
    "name": "privileged",
    "image": "example.com/image:latest",
    "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}},
    "securityContext": {
        "runAsUser": 0,
        "privileged": True,
        "allowPrivilegeEscalation": True,
        "capabilities": {"drop": ["NET_RAW"], "add": ["SYS_ADMIN"]},
    },
}
BROKEN_POD = {
    "automountServiceAccountToken": None,
    "hostNetwork": True,
    "initContainers": [PRIVILEGED],
    "containers": [CARELESS],
    "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
}


def test_what_is_right_passes_in_every_environment(checkout: Checkout) -> None:
    checkout.add_objects(workload("Deployment", {"containers": [GOOD]}), MONITOR)
    checkout.set("dev.yaml", {"airflow": {"parallelism": 2}})
    checkout.add_environment("prod", "airflow:\n  parallelism: 64\n")
    answer = checkout.run("validate")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rows = [re.split(r" {2,}", line.strip()) for line in answer.stdout.splitlines()]
    assert rows[0][1:] == ["dev", "prod"]
    assert rows[1:11] == [
        *([check, "ok", "ok"] for check in ("values", "helm lint", "notes", "render", "rendered YAML")),
        *([check, "ok", "ok"] for check in ("policies", "pod templates")),
        *([f"Kubernetes {version}", "ok (1 skipped)", "ok (1 skipped)"] for version in ("1.33", "1.34", "1.35")),
    ]
    assert (
        answer.stdout.count("skipped ServiceMonitor (monitoring.coreos.com/v1): no schema of this custom resource") == 1
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What validate prints of an environment in which each check finds something."""
    folder = tmp_path_factory.mktemp("wrong")
    checkout = make_checkout(folder)
    checkout.add_objects(
        workload("StatefulSet", BROKEN_POD, serviceName="mine"),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"password": "swordfish"}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "mine"},
            "data": {"dsn": "redis://:swordfish@r/0", "more": f"aws_key: AKIA{16 * 'X'}", "fernet": 43 * "k" + "="},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine"}, "spec": {"port": 1}},
        {"apiVersion": "policy/v1beta1", "kind": "PodSecurityPolicy", "metadata": {"name": "old"}, "spec": {}},
        MONITOR,
    )
    checkout.set(
        "base.yaml",
        {
            "airflow": {"templateFile": "/opt/airflow/pod_templates/usual.yaml"},
            "platform": {"sizes": {"default": {"token": True, "resources": {"requests": None}}}},
        },
    )
    (checkout.root / "values/dev.yaml").write_text(
        "airflow:\n  parallelism:  4\n  schedulers: 3\n  oldKey: x\nplatform:\n"
        "  nodeShapes:\n    - {name: small, cpu: '4', memory: 8Gi}\n"
    )
    (checkout.root / "charts/platform/templates/twice.tpl").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\ndata:\n  a: b\n  a: c\n"
    )
    checkout.write_dag('executor_config={"pod_template_file": "/opt/airflow/pod_templates/huge.yaml"}')
    port = {"type": "object", "properties": {"port": {"type": "string"}}}
    spec = {"type": "object", "properties": {"endpoints": {"type": "array", "items": port}}}
    schema = folder / "schemas/monitoring.coreos.com/servicemonitor_v1.json"
    schema.parent.mkdir(parents=True)
    schema.write_text(json.dumps({"type": "object", "properties": {"spec": spec}}))
    answer = checkout.run("validate", "dev", AIRFLOW_OPS_CRD_SCHEMAS=str(folder / "schemas"))
    assert answer.returncode == 1, answer.stderr
    assert "swordfish" not in answer.stdout + answer.stderr, "what should be secret is not printed"
    return answer.stdout.splitlines()


def of(check: str, found: list[str]) -> list[str]:
    """The findings of one check."""
    prefix = f"dev {check}: "
    return [line.removeprefix(prefix) for line in found if line.startswith(prefix)]


def test_each_policy_names_release_kind_object_and_container(found: list[str]) -> None:
    at = "airflow-platform/StatefulSet/mine"
    template = "airflow-blue/ConfigMap/airflow-blue-pod-templates[default.yaml]"
    remedy = "take it from a Secret with valueFrom.secretKeyRef"
    expected = {
        f"{at}: hostNetwork is true",
        f"{at}: volume root is a hostPath (/)",
        f"{at}: automountServiceAccountToken is set neither in the pod nor in the ServiceAccount default",
        f"{at}/privileged: resources.requests lacks memory",
        f"{at}/privileged: resources.limits lacks memory",
        f"{at}/privileged: runAsNonRoot is not true, neither here nor in the pod",
        f"{at}/privileged: runAsUser is 0",
        f"{at}/privileged: seccompProfile.type is not RuntimeDefault, neither here nor in the pod",
        f"{at}/privileged: securityContext.allowPrivilegeEscalation is not false",
        f"{at}/privileged: securityContext.privileged is true",
        f"{at}/privileged: securityContext.capabilities.drop is not [ALL]",
        f"{at}/privileged: securityContext.capabilities.add has SYS_ADMIN",
        f"{at}/privileged: image 'example.com/image:latest' has the tag latest, which moves",
        f"{at}/careless: resources.requests lacks cpu and memory",
        f"{at}/careless: resources.limits lacks cpu and memory",
        f"{at}/careless: runAsNonRoot is not true, neither here nor in the pod",
        f"{at}/careless: seccompProfile.type is not RuntimeDefault, neither here nor in the pod",
        f"{at}/careless: securityContext.allowPrivilegeEscalation is not false",
        f"{at}/careless: securityContext.capabilities.drop is not [ALL]",
        f"{at}/careless: image 'registry:5000/image' has no tag",
        f"{at}/careless: runs until it is stopped, and has neither livenessProbe nor readinessProbe",
        f"{at}/careless: env API_TOKEN looks like a literal secret: {remedy}",
        f"{at}/careless: env DSN looks like a literal secret: {remedy}",
        f"{at}/careless: args holds a URL with a password: take it from an environment variable of a Secret",
        "airflow-platform/Secret/mine: is a Secret with data: make it outside of Helm and name it in values",
        "airflow-platform/ConfigMap/mine: its key dsn holds a URL with a password: put it into a Secret",
        "airflow-platform/ConfigMap/mine: data.more holds a key or token: put it into a Secret",
        "airflow-platform/ConfigMap/mine: data.fernet holds a key or token: put it into a Secret",
        f"{template}: automountServiceAccountToken is not false: a worker pod runs user code",
        f"{template}/base: resources.requests lacks cpu and memory",
    }
    assert set(of("policies", found)) == expected


def test_values_stand_in_one_layer(found: list[str]) -> None:
    assert of("values", found) == [
        "values/dev.yaml:2:16: [error] too many spaces after colon (colons)",
        "values/dev.yaml: airflow.parallelism repeats the value of the layer below: remove it",
        "values/dev.yaml: the list platform.nodeShapes is in a layer below too, and Helm would drop that one: "
        "keep it in one file",
    ]


def test_a_deprecated_key_is_reported(found: list[str]) -> None:
    assert of("notes", found) == ["airflow-blue: DEPRECATION WARNING: `oldKey` has been renamed to `newKey`."]


@pytest.mark.parametrize("version", ["1.33", "1.34", "1.35"])
def test_objects_fit_the_api_of_each_kubernetes(found: list[str], version: str) -> None:
    remarks = {remark.partition(": ")[0]: remark for remark in of(f"Kubernetes {version}", found)}
    assert "additional properties 'port' not allowed" in remarks["airflow-platform/Service/mine"]
    assert "could not find schema" in remarks["airflow-platform/PodSecurityPolicy/old"], "gone since Kubernetes 1.25"
    assert "at '/spec/endpoints/0/port': got number, want string" in remarks["airflow-platform/ServiceMonitor/statsd"]
    assert not [line for line in found if "skipped" in line]


def test_a_key_that_stands_twice(found: list[str]) -> None:
    [remark] = of("rendered YAML", found)
    assert 'duplication of key "a" in mapping' in remark


def test_a_pod_template_that_the_scheduler_lacks(found: list[str]) -> None:
    scheduler = "airflow-blue/Deployment/airflow-blue-scheduler: the pod template /opt/airflow/pod_templates"
    assert of("pod templates", found) == [
        f"{scheduler}/huge.yaml is not mounted, but task load.run names it",
        f"{scheduler}/usual.yaml is not mounted, but airflow.cfg in airflow-blue-config names it",
    ]


def test_a_broken_environment_does_not_hide_another(checkout: Checkout) -> None:
    checkout.set("dev.yaml", {"global": {"colour": "blue"}})
    checkout.add_environment("prod", "airflow:\n  parallelism: 64\n")
    answer = checkout.run("validate", "all")
    assert answer.returncode == 1
    [remark] = [line for line in answer.stdout.splitlines() if line.startswith("dev render: ")]
    assert "release airflow-platform of dev cannot be rendered" in remark
    policies = next(line for line in answer.stdout.splitlines() if "policies" in line)
    assert "not rendered" in policies
    assert "ok" in policies, "prod is checked all the same"
    assert not [line for line in answer.stdout.splitlines() if line.startswith("prod ")], "and nothing is wrong with it"


def test_an_unknown_environment(checkout: Checkout) -> None:
    answer = checkout.run("validate", "dev", "nowhere")
    assert answer.returncode == 2
    assert "environment 'nowhere' does not exist" in answer.stderr
