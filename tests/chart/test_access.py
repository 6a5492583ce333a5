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
