"""Every alert leads to a page that says what to do, in commands that exist."""

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import airflow.api_fastapi.core_api.openapi as openapi
import pytest
import typer
import yaml
from typer.core import TyperGroup

from airflow_ops.cli import VERBS, app
from airflow_ops.paths import ROOT
from support.alert_cases import load_alerts

RUNBOOKS = ROOT / "docs/runbooks"
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
PROGRAMS = {"kubectl", "airflow-ops", "curl", "git", "grep", "jq", "export"}
KUBECTL = {"auth", "delete", "describe", "exec", "get", "logs", "rollout", "scale", "top"}
VARIABLES = {"ENV", "CTX", "NS", "COLOUR", "AIRFLOW", "TOKEN", "DAG", "RUN", "TASK", "POOL", "COMMIT", "VERSION"}
ALERTS = load_alerts()
PAGES = sorted(RUNBOOKS.glob("*.md"))


def commands(page: Path) -> list[str]:
    """Every command of a page: the lines of its console blocks, each begun by a prompt."""
    lines = [
        line
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
    ]
    assert all(line.startswith("$ ") for line in lines), f"{page.name}: a line of a console block has no prompt"
    return [line[2:] for line in lines]


ALL_COMMANDS = [
    pytest.param(page.stem, line, id=f"{page.stem} {n}") for page in PAGES for n, line in enumerate(commands(page))
]


@cache
def rest_api() -> dict[str, Any]:
    spec = Path(openapi.__file__).parent / "v2-rest-api-generated.yaml"
    return dict(yaml.load(spec.read_text(), Loader=yaml.CSafeLoader))


def parts(line: str) -> list[list[str]]:
    """The programs of a pipeline with their arguments."""
    words = shlex.split(line)
    found: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            found.append([])
        else:
            found[-1].append(word)
    return found


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_its_page(alert: str) -> None:
    link = ROOT / ALERTS[alert]["annotations"]["runbook_url"]
    assert link == RUNBOOKS / f"{alert}.md"
    text = link.read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    sections = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
    assert all(len(section.split()) >= 5 for section in sections), "a heading has nothing to say"
    assert "```console" in sections[HEADINGS.index("Diagnosis")], "nothing to look at"
    assert "**Escalate** " in sections[HEADINGS.index("Mitigation")], "nobody to call"


def test_no_page_lacks_its_alert() -> None:
    assert {page.stem for page in PAGES} - {"README"} == set(ALERTS)


def test_a_page_that_is_named_on_another_exists() -> None:
    for page in PAGES:
        assert set(re.findall(r"\bAirflow[A-Z]\w+", page.read_text())) <= set(ALERTS), page.name


@pytest.mark.parametrize(("page", "line"), ALL_COMMANDS)
def test_a_command_is_one_that_exists(page: str, line: str) -> None:
    assert set(re.findall(r"\$([A-Z]+)\b", line)) <= VARIABLES
    for program, *arguments in parts(line):
        assert program in PROGRAMS
        if program == "kubectl":
            check_kubectl(arguments)
        elif program == "airflow-ops":
            check_airflow_ops(arguments)
        elif program == "curl":
            check_curl(arguments)


def check_kubectl(arguments: list[str]) -> None:
    """A context always, a namespace unless it is about the cluster, and a subcommand that changes what it says."""
    assert arguments[:2] == ["--context", "$CTX"]
    rest = arguments[2:]
    if rest[:2] == ["-n", "$NS"]:
        rest = rest[2:]
    else:
        assert "-A" in rest or "nodes" in rest, "a namespace is missing"
    assert rest[0] in KUBECTL


@pytest.mark.parametrize(("page", "line"), ALL_COMMANDS)
def test_a_selector_is_one_of_the_charts(page: str, line: str) -> None:
    selectors = re.findall(r"-l (\S+)", line) if "-A" not in line.split() else []
    assert [selector for selector in selectors if unknown_labels(selector)] == []


@cache
def known_labels() -> set[str]:
    """Labels of our own pods, of the official chart's pods, and of worker pods."""
    own = "\n".join(file.read_text() for file in (ROOT / "charts/platform/templates").rglob("*.*"))
    official = yaml.safe_load((ROOT / "charts/platform/files/network.yaml").read_text())["pods"].values()
    known = {f"{key}={value}" for labels in official for key, value in labels.items()} | {"kubernetes_executor=True"}
    for key in re.findall(r"^(app\.kubernetes\.io/\w+): {{ \.component }}$", own, re.MULTILINE):
        known |= {f"{key}={component}" for component in re.findall(r'"component" "([\w-]+)"', own)}
    return known


def unknown_labels(selector: str) -> set[str]:
    """Labels of a selector that no pod here has; any DAG may be named."""
    return {label for label in selector.split(",") if not label.startswith("dag_id=")} - known_labels()


def test_a_selector_of_nothing_is_found() -> None:
    assert unknown_labels("tier=airflow,component=nothing") == {"component=nothing"}
    assert unknown_labels("app.kubernetes.io/name=airflow-nothing") == {"app.kubernetes.io/name=airflow-nothing"}


def check_airflow_ops(arguments: list[str]) -> None:
    """The command line itself takes the arguments; nothing is run."""
    assert arguments[0] in VERBS
    group: Any = typer.main.get_command(app)
    context = group.make_context("airflow-ops", list(arguments))
    while isinstance(group, TyperGroup):
        name, group, arguments = group.resolve_command(context, arguments)
        context = group.make_context(name, list(arguments), parent=context)


def check_body(body: dict[str, Any], method: dict[str, Any]) -> None:
    """Each key is one of the request's; a task is cleared in any state, where the default is failed ones only."""
    schema = method["requestBody"]["content"]["application/json"]["schema"]
    properties = rest_api()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["properties"]
    assert set(body) <= set(properties)
    assert body.get("only_failed") is False or "only_failed" not in properties


def check_curl(arguments: list[str]) -> None:
    """The path, the method and each parameter are in Airflow's own description of its REST API."""
    url = next(argument for argument in arguments if argument.startswith("$AIRFLOW/"))
    path, _, query = url.removeprefix("$AIRFLOW").partition("?")
    method = arguments[arguments.index("-X") + 1].lower() if "-X" in arguments else "get"
    if path == "/auth/token":  # the auth manager's, not the REST API's
        return
    wanted = path.split("/")
    for known, methods in rest_api()["paths"].items():
        pieces = known.split("/")
        if len(pieces) == len(wanted) and all(a == b or a.startswith("{") for a, b in zip(pieces, wanted, strict=True)):
            if "-d" in arguments:
                check_body(json.loads(arguments[arguments.index("-d") + 1]), methods[method])
            parameters = {parameter["name"] for parameter in methods[method].get("parameters", [])}
            assert {item.partition("=")[0] for item in query.split("&") if item} <= parameters, known
            return
    raise AssertionError(f"the REST API has no {path}")
