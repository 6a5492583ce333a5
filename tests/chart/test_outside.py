"""Which requests the API of tasks answers: each kind of `Host` header, at the plug-in that stands before Airflow."""

import asyncio
import importlib.util
from typing import Any

import pytest

from airflow_ops.paths import PLUGINS

BASE_URL, EXECUTION = "AIRFLOW__API__BASE_URL", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"
PUBLIC = {BASE_URL: "https://airflow.example.com", EXECUTION: "http://airflow-exec-blue:8080/execution/"}


def status(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    headers: list[tuple[str, str]],
    path: str = "/execution/health",
    root: str = "",
) -> int:
    """What a request is answered with these settings; 200 is Airflow's answer."""
    for name in (BASE_URL, EXECUTION):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("platform_outside_tested", PLUGINS / "platform_outside.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answers: list[int] = []

    async def airflow(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": root,
        "server": ("2a05:d018::7", 8080),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    asyncio.run(module.RefuseOutside(airflow)(scope, None, send))
    return answers[0]


def test_tasks_ask_by_names_that_are_known_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in (
        "airflow",
        "airflow-exec-blue:8080",
        "AIRFLOW-exec-green.:8080",
        "airflow-exec-blue.airflow-prod",
        "airflow-exec-blue.airflow-prod.svc:8080",
        "airflow.airflow-prod.svc.cluster.local:8080",
        "airflow.airflow-prod.svc.corp.example:8080",
        "localhost:8080",
        "127.0.0.1:41234",
        "10.1.2.3:8080",
        "100.64.0.9:8080",
        "[fd00::1]:8080",
        "[2a05:d018::7]:8080",
    ):
        assert status(monkeypatch, PUBLIC, [("host", host)]) == 200, host


@pytest.mark.parametrize(
    "hosts",
    [
        ["airflow.example.com"],
        ["AIRFLOW.example.com.:443"],
        ["other.example.com"],
        ["airflow-exec-red"],
        ["airflow.airflow-prod.example.com"],
        [],
        [""],
        ["airflow", "airflow"],
        ["airflow", "airflow.example.com"],
        ["airflow,airflow.example.com"],
        ["airflow.example.com@airflow"],
        ["airflow@airflow.example.com"],
        ["[::1"],
        ["[nonsense]"],
        ["airflow:nonsense"],
        ["203.0.114.9"],
        ["[2a05:d018::8]:8080"],
        ["airfl\xf6w"],
    ],
)
def test_every_other_name_is_refused(monkeypatch: pytest.MonkeyPatch, hosts: list[str]) -> None:
    headers = [("host", host) for host in hosts]
    for settings in (PUBLIC, {EXECUTION: PUBLIC[EXECUTION]}, PUBLIC | {BASE_URL: "airflow.example.com"}):
        assert status(monkeypatch, settings, headers) == 404
        assert status(monkeypatch, settings, headers, "/api/v2/version") == 200
        assert status(monkeypatch, settings, headers, "/executions") == 200


def test_a_public_name_may_look_like_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PUBLIC | {BASE_URL: "https://airflow.example"}
    assert status(monkeypatch, settings, [("host", "airflow.example")]) == 404
    assert status(monkeypatch, settings, [("host", "airflow.airflow-prod")]) == 200


def test_a_proxy_that_asks_with_a_name_from_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    forwarded = [("host", "airflow"), ("x-forwarded-host", "airflow.example.com")]
    assert status(monkeypatch, PUBLIC, forwarded) == 404


def test_a_path_in_front_of_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PUBLIC | {BASE_URL: "https://airflow.example.com/exec"}
    for path, root in (("/exec/execution/health", "/exec"), ("/execution", "/exec"), ("/execution/health", "/exec")):
        assert status(monkeypatch, settings, [("host", "airflow.example.com")], path, root) == 404
        assert status(monkeypatch, settings, [("host", "airflow")], path, root) == 200


def test_the_name_that_tasks_are_told_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {BASE_URL: "https://airflow.example.com", EXECUTION: "http://tasks.example.com/execution/"}
    assert status(monkeypatch, told, [("host", "tasks.example.com")]) == 200
    assert status(monkeypatch, told, [("host", "airflow.example.com")]) == 404
    # Airflow tells them the public name if it is told no other.
    assert status(monkeypatch, {BASE_URL: "https://airflow.example.com"}, [("host", "airflow.example.com")]) == 200


def test_a_malformed_setting_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PUBLIC | {BASE_URL: "https://[::1"}
    assert status(monkeypatch, settings, [("host", "airflow-exec-blue:8080")]) == 200
    assert status(monkeypatch, settings, [("host", "airflow.example.com")]) == 404
