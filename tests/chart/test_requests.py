"""What the API server makes of requests through an Ingress: Airflow itself, with the settings of an environment."""

import configparser
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_ops.paths import PLUGINS
from support.chart_rendering import Charts, Rendered

ASK = """
import json, os, re, sys

import uvicorn
from airflow import settings
from airflow.utils.db import initdb
from starlette.testclient import TestClient

settings.configure_orm()
initdb()
from airflow.api_fastapi.app import create_app

airflow = create_app(apps="all")
served = uvicorn.Config(airflow, proxy_headers=sys.argv[1] == "True")
served.load()
pages = airflow.state.auth_manager.flask_app
with pages.app_context():
    security = pages.appbuilder.sm
    security.add_user("ada", "Ada", "L", "ada@example.com", security.find_role("Admin"), password="swordfish")

client = TestClient(
    served.loaded_app, base_url="http://airflow.example.com", client=(sys.argv[2], 50000), follow_redirects=False
)
client.headers.update(json.loads(sys.argv[3]))


def cookies(answer):
    found = {}
    for line in answer.headers.get_list("set-cookie"):
        name, value = line.split(";")[0].split("=", 1)
        found[name] = (value, "secure" in line.lower())
    return found


page = client.get("/auth/login/")
asked = cookies(page)
form = {"username": "ada", "password": "swordfish"}
token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
entered = client.post(
    "/auth/login/",
    data=form | ({"csrf_token": token[1]} if token else {}),
    headers={"Cookie": f"session={asked['session'][0]}", "Referer": "https://airflow.example.com/auth/login/"},
)
# What is not valid is removed, by the same middleware that renews what is.
removed = client.get("/api/v2/version", headers={"Cookie": "_token=stale"})
tasks = {}
# Tasks ask without a proxy.
client.headers.pop("X-Forwarded-Host", None)
for host in ("airflow.example.com", "AIRFLOW.example.com.:443", "airflow-exec-blue:8080", "airflow-exec-green:8080"):
    paths = ("/execution/health", "/%65xecution/health", "/api/v2/version")
    tasks[host] = [client.get(path, headers={"Host": host}).status_code for path in paths]
print("found " + json.dumps({
    "tasks": tasks,
    "session": cookies(page)["session"][1],
    "login": cookies(entered).get("_token", [None, entered.text[-300:]])[1],
    "renewal": cookies(removed)["_token"][1],
}))
"""
PROXY = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "airflow.example.com"}


def ask(rendered: Rendered, home: Path, client: str, headers: dict[str, str]) -> dict[str, Any]:
    """Whether each cookie is for TLS only, and what requests are answered, when this client asks with these headers."""
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(rendered.one("ConfigMap", "airflow-blue-config")["data"]["airflow.cfg"])
    server = rendered.one("Deployment", "airflow-blue-api-server")["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each.get("value") for each in server["env"]}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__AUTH_MANAGER": config["core"]["auth_manager"],
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": config["core"]["execution_api_server_url"],
        "AIRFLOW__API__BASE_URL": config.get("api", "base_url", fallback=""),
        "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-of-the-test-that-is-long-enough-for-the-algorithm-of-it-64",
        **{f"AIRFLOW__FAB__{key.upper()}": value for key, value in config["fab"].items()},
        **{name: value for name, value in variables.items() if name == "FORWARDED_ALLOW_IPS" and value},
    }
    proxied = str("--proxy-headers" in server["args"][-1])
    command = [sys.executable, "-c", ASK, proxied, client, json.dumps(headers)]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert lines, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(lines[0].removeprefix("found "))
    return found


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_cookies_are_for_tls_only_behind_an_ingress(charts: Charts, tmp_path: Path, name: str) -> None:
    found = ask(charts.environment(name), tmp_path, "10.1.2.3", PROXY)
    del found["tasks"]
    assert found == {"session": True, "login": True, "renewal": True}


def test_headers_of_a_stranger_are_not_believed(prod: Rendered, tmp_path: Path) -> None:
    found = ask(prod, tmp_path, "198.51.100.9", PROXY)
    assert found["renewal"] is False
    # However the path is written; and tasks ask by the name of a Service.
    public, service = [404, 404, 200], [200, 200, 200]
    assert found["tasks"] == {
        "airflow.example.com": public,
        "AIRFLOW.example.com.:443": public,
        "airflow-exec-blue:8080": service,
        "airflow-exec-green:8080": service,
    }


def test_in_development_a_login_works_without_tls(dev: Rendered, tmp_path: Path) -> None:
    found = ask(dev, tmp_path, "127.0.0.1", {})
    tasks = found.pop("tasks")
    assert tasks["airflow-exec-blue:8080"] == [200, 200, 200]
    assert tasks["airflow.example.com"] == [404, 404, 200], "a name that is not known inside"
    assert found == {"session": False, "login": False, "renewal": False}
