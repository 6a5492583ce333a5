"""Overlays that take connections from a secrets manager: what is configured, who may ask, what pods no longer hold."""

import configparser
import json
import re
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string

from airflow_ops.paths import ROOT
from support.chart_rendering import Charts, Rendered

pytestmark = pytest.mark.xdist_group("secrets_backends")  # what the module makes is made once
BACKENDS = {
    "secrets-aws": ["aws"],
    "secrets-aws-ssm": ["aws"],
    "secrets-azure": ["azure"],
    "secrets-gcp": ["gcp"],
    "secrets-kubernetes": [],
    "secrets-vault": [],
}
"""Overlay to those it goes over."""
BY_IDENTITY = ("secrets-aws", "secrets-aws-ssm", "secrets-azure", "secrets-gcp")
"""Where workers ask the manager themselves; elsewhere the API server asks for them."""
IN_THE_IMAGE = ("secrets-aws", "secrets-aws-ssm", "secrets-kubernetes", "secrets-vault")
ANSWERS = ("api-server", "triggerer", "dag-processor")


@pytest.fixture(params=BACKENDS, scope="module")
def overlay(request: pytest.FixtureRequest, charts: Charts) -> tuple[str, Rendered]:
    name: str = request.param
    return name, charts.environment("prod", *BACKENDS[name], name)


def config(rendered: Rendered) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(rendered.one("ConfigMap", "airflow-blue-config")["data"]["airflow.cfg"])
    return parsed


def test_every_overlay_is_looked_at() -> None:
    assert {path.stem for path in (ROOT / "values/overlays").glob("secrets-*.yaml")} == BACKENDS.keys()


def test_no_pod_has_the_connections_in_its_environment(overlay: tuple[str, Rendered]) -> None:
    _, rendered = overlay
    assert "airflow-connections" not in rendered.all("ExternalSecret")
    for pod in rendered.pods():
        assert "airflow-connections" not in json.dumps(pod.spec), pod.identity


def test_the_backend_asks_for_connections_of_this_environment_alone(overlay: tuple[str, Rendered]) -> None:
    name, rendered = overlay
    secrets, workers = config(rendered)["secrets"], config(rendered)["workers"]
    arguments = json.loads(secrets["backend_kwargs"])
    assert "prod" in json.dumps(arguments)
    assert {value for key, value in arguments.items() if re.match("(variable|config)s?_", key)} == {None}
    assert not re.search("(?i)password|secret_id|token|key_path|access_key", json.dumps(arguments)), "identity, no key"
    if name in BY_IDENTITY:
        assert workers["secrets_backend"] == secrets["backend"]
        assert json.loads(workers["secrets_backend_kwargs"]) == arguments
    else:
        assert "secrets_backend" not in workers


def test_whoever_asks_has_an_identity(overlay: tuple[str, Rendered]) -> None:
    name, rendered = overlay
    accounts = rendered.all("ServiceAccount")
    for component in (*ANSWERS, *(["worker"] if name in BY_IDENTITY else [])):
        account = accounts[f"airflow-blue-{component}"]
        if name in BY_IDENTITY:
            assert account["metadata"]["annotations"], component
        else:
            assert account["automountServiceAccountToken"] is True, component
    assert accounts["airflow-blue-worker"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("overlay", IN_THE_IMAGE, indirect=True)
def test_a_backend_takes_the_arguments_that_the_overlay_gives(overlay: tuple[str, Rendered]) -> None:
    """The provider's own class, made as Airflow makes it. Preflight refuses one that the image does not hold."""
    _, rendered = overlay
    secrets = config(rendered)["secrets"]
    backend = import_string(secrets["backend"])(**json.loads(secrets["backend_kwargs"]))
    assert backend.get_variable("anything") is None, "not asked for, so nothing is reached"


def test_only_the_components_that_answer_read_the_namespace_of_connections(charts: Charts) -> None:
    rendered = charts.environment("prod", "secrets-kubernetes")
    role, binding = rendered.one("Role", "airflow-connections"), rendered.one("RoleBinding", "airflow-connections")
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "airflow-prod-connections"
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]
    subjects: list[dict[str, Any]] = binding["subjects"]
    assert {s["name"] for s in subjects} == {f"airflow-{c}-{a}" for c in ("blue", "green") for a in ANSWERS}


def test_the_order_is_backend_environment_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's own lists, which docs/secrets.md repeats."""
    from airflow.sdk.configuration import initialize_secrets_backends
    from airflow.sdk.execution_time.secrets import DEFAULT_SECRETS_SEARCH_PATH_WORKERS

    aws = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
    monkeypatch.setenv("AIRFLOW__WORKERS__SECRETS_BACKEND", aws)
    chain = [type(b).__name__ for b in initialize_secrets_backends(DEFAULT_SECRETS_SEARCH_PATH_WORKERS)]
    assert chain == ["SecretsManagerBackend", "EnvironmentVariablesBackend", "ExecutionAPISecretsBackend"]
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", aws)
    chain = [type(b).__name__ for b in initialize_secrets_backends()]
    assert chain == ["SecretsManagerBackend", "EnvironmentVariablesBackend", "MetastoreBackend"]


def test_the_registry_secret_is_one_that_kubelets_take(charts: Charts) -> None:
    rendered = charts.environment("prod", "registry")
    target = rendered.one("ExternalSecret", "airflow-registry")["spec"]["target"]
    assert target["template"] == {"type": "kubernetes.io/dockerconfigjson"}
    for pod in rendered.pods():
        assert {"name": "airflow-registry"} in pod.spec.get("imagePullSecrets", []), pod.identity
