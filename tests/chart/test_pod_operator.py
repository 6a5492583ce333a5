"""Pods of KubernetesPodOperator: as docs/patterns.md writes it they are taken, and by its defaults they are not."""

import json
import re
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import ApiClient
from kubernetes.utils.quantity import parse_quantity

from airflow_ops.paths import ROOT
from support.admission_pods import refusals
from support.chart_rendering import Rendered

MAKER = "system:serviceaccount:airflow-dev:airflow-launcher"
SECTION = (ROOT / "docs/patterns.md").read_text().split("## Pods of a program's own", 1)[1].split("\n## ", 1)[0]
IMAGE = "docker.io/library/airflow-platform:dev"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented connection, and an operator that believes itself in a cluster, which it would ask otherwise."""
    text = json.dumps({"conn_type": "kubernetes", "extra": json.loads(block("json"))})
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", text)
    monkeypatch.setattr(KubernetesHook, "is_in_cluster", True)


def pod_of(operator: KubernetesPodOperator) -> dict[str, Any]:
    operator.namespace = "airflow-dev"
    made = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(None))
    # As the API server hands it on: it leaves out what is false.
    spec = {key: value for key, value in made["spec"].items() if (key, value) != ("hostNetwork", False)}
    return {"apiVersion": "v1", "kind": "Pod", **made, "spec": {"schedulerName": "default-scheduler", **spec}}


def documented() -> KubernetesPodOperator:
    names: dict[str, Any] = {}
    *before, last = block("python").split("\n\nKubernetesPodOperator(")
    exec("\n\n".join(before) + "\noperator = KubernetesPodOperator(" + last, names)  # noqa: S102 from our own page
    found: KubernetesPodOperator = names["operator"]
    return found


def judged(dev: Rendered, pod: dict[str, Any]) -> list[str]:
    return refusals(dev.one("ValidatingAdmissionPolicy", "airflow-dev-worker-pods"), pod, MAKER)


def outside_of_limits(dev: Rendered, pod: dict[str, Any]) -> list[str]:
    """Containers whose limit is too large for their request, after the LimitRange's defaults."""
    (limits,) = dev.one("LimitRange", "airflow")["spec"]["limits"]
    return [
        f"{container['name']} {name}"
        for container in pod["spec"]["containers"]
        for name, ratio in limits["maxLimitRequestRatio"].items()
        if parse_quantity({**limits["default"], **container["resources"].get("limits", {})}[name])
        > parse_quantity(ratio) * parse_quantity(container["resources"]["requests"][name])
    ]


@pytest.mark.usefixtures("connection")
def test_what_the_page_shows_is_taken(dev: Rendered) -> None:
    pod = pod_of(documented())
    assert [container["name"] for container in pod["spec"]["containers"]] == ["base", "airflow-xcom-sidecar"]
    assert judged(dev, pod) == []
    assert outside_of_limits(dev, pod) == []


@pytest.mark.usefixtures("connection")
def test_the_operators_defaults_are_refused(dev: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", '{"conn_type": "kubernetes"}')
    operator = documented()
    operator.container_security_context = None
    pod = pod_of(operator)
    said = " ".join(judged(dev, pod))
    assert "image alpine:" in said
    assert "is not from an allowed repository" in said
    assert "privileged" in said
    assert outside_of_limits(dev, pod) == ["airflow-xcom-sidecar cpu", "airflow-xcom-sidecar memory"]
