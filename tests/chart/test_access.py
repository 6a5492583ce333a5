"""How people reach the page: TLS, headers, limits, and the login through a provider."""

import ast
from typing import Any

import pytest

from airflow_ops.environments.values import read_values
from airflow_ops.paths import ROOT
from support.chart_rendering import Render


def overlay(name: str) -> dict[str, Any]:
    return read_values(ROOT / f"values/overlays/{name}.yaml")


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_the_page_is_behind_tls(render: Render, name: str) -> None:
    ingress = render("airflow-platform", environment=name, only="api-server/ingress.yaml").one("Ingress", "airflow")
    host = ingress["spec"]["rules"][0]["host"]
    assert ingress["spec"]["tls"] == [{"hosts": [host], "secretName": "airflow-tls"}]


def backend(ingress: dict[str, Any], path: str) -> str:
    """The Service that gets a request, as Kubernetes defines it for paths of type Prefix: the longest one wins."""
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert {each["pathType"] for each in paths} == {"Prefix"}
    elements = [element for element in path.split("/") if element]
    fitting = {}
    for each in paths:
        prefix = [element for element in each["path"].split("/") if element]
        if elements[: len(prefix)] == prefix:
            fitting[len(prefix)] = each["backend"]["service"]["name"]
    return str(fitting[max(fitting)])


@pytest.mark.parametrize("overlays", [["ingress-nginx"], ["ingress-alb"], []])
@pytest.mark.parametrize("name", ["staging", "prod"])
def test_no_request_from_outside_reaches_the_api_of_tasks(render: Render, name: str, overlays: list[str]) -> None:
    values = overlay(overlays[0]) if overlays else {}
    answer = render("airflow-platform", values, environment=name)
    ingress = answer.one("Ingress", "airflow")
    for path in ("/execution", "/execution/", "/execution/task-instances/1/run", "/execution/health"):
        assert backend(ingress, path) == "airflow-refused", path
    for path in ("/", "/dags", "/api/v2/dags", "/ui/config", "/auth/token", "/executions", "/dags/execution"):
        assert backend(ingress, path) == "airflow", path


def test_nothing_answers_what_is_refused(render: Render) -> None:
    answer = render("airflow-platform", environment="prod")
    service = answer.one("Service", "airflow-refused")
    selector = service["spec"]["selector"].items()
    objects = [*answer.objects, *render("airflow-blue", environment="prod").objects]
    templates = [o["spec"]["template"] for o in objects if "template" in o.get("spec", {})]
    assert templates
    assert not [t for t in templates if selector <= t["metadata"].get("labels", {}).items()]
    # Else a task's pod could give itself the labels, and answer under Airflow's own address.
    assert set(dict(selector)) >= {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    port = service["spec"]["ports"][0]["name"]
    paths = answer.one("Ingress", "airflow")["spec"]["rules"][0]["http"]["paths"]
    assert [p["backend"]["service"]["port"]["name"] for p in paths if p["path"] == "/execution"] == [port]


def test_without_an_ingress_nothing_is_refused_there(render: Render) -> None:
    answer = render("airflow-platform", environment="dev")
    assert not [o for o in answer.objects if o["metadata"]["name"] == "airflow-refused"]


def test_ingress_nginx_redirects_limits_and_adds_headers(render: Render) -> None:
    answer = render("airflow-platform", overlay("ingress-nginx"), environment="prod", only="api-server/*.yaml")
    annotations = answer.one("Ingress", "airflow")["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    assert annotations[f"{prefix}force-ssl-redirect"] == "true"
    assert int(annotations[f"{prefix}limit-rps"]) > 0
    assert annotations[f"{prefix}custom-headers"] == "airflow-prod/airflow-response-headers"
    headers = answer.one("ConfigMap", "airflow-response-headers")["data"]
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_a_provider_gives_roles_by_groups_and_its_secret_by_name(render: Render) -> None:
    objects = render("airflow-blue", overlay("oidc"), environment="prod")
    server = objects.one("Deployment", "airflow-blue-api-server")["spec"]["template"]["spec"]
    mounts = [m["mountPath"] for m in server["containers"][0]["volumeMounts"]]
    assert "/opt/airflow/webserver_config.py" in mounts
    variables = {e["name"]: e for e in server["containers"][0]["env"]}
    assert variables["OIDC_CLIENT_SECRET"]["valueFrom"]["secretKeyRef"]["name"] == "airflow-oidc"
    text = objects.one("ConfigMap", "airflow-blue-api-server-config")["data"]["webserver_config.py"]
    settings = {
        node.targets[0].id: node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(settings["AUTH_USER_REGISTRATION_ROLE"]) == "Public"
    assert ast.literal_eval(settings["AUTH_ROLES_SYNC_AT_LOGIN"]) is True
    roles = ast.literal_eval(settings["AUTH_ROLES_MAPPING"])
    assert [group for group, given in roles.items() if "Admin" in given] == ["airflow-admins"]
