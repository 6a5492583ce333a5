"""Dashboards are what they are made from, ask Prometheus only for what there is, and agree with the alerts."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_cases import load_alerts, load_rules
from dashboard_panels import shown
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from airflow_ops.console import ProblemError
from airflow_ops.monitoring.dashboards import command
from airflow_ops.monitoring.dashboards.command import filled
from airflow_ops.monitoring.metrics import unknown
from airflow_ops.monitoring.promql import read
from airflow_ops.paths import ROOT

RECORDED = frozenset(
    rule["record"]
    for content in load_rules().values()
    for group in content["groups"]
    for rule in group["rules"]
    if "record" in rule
) | {"ALERTS"}
BUILT_IN = {"__range", "__rate_interval"}
EVERY = shown()


def alert_of(panel: dict[str, Any]) -> str | None:
    """The alert whose threshold a panel draws."""
    found = [title for link in panel.get("links", []) if (title := link["title"]).startswith("Alert: ")]
    assert len(found) <= 1, panel["title"]
    return found[0].removeprefix("Alert: ") if found else None


def line_of(panel: dict[str, Any]) -> dict[str, Any]:
    """Where a panel turns from one colour to the other."""
    first, second = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert first["value"] is None
    return {"value": second["value"], "colours": (first["color"], second["color"])}


def test_the_files_are_what_they_are_made_from() -> None:
    assert {path.name: path.read_text() for path in command.FOLDER.iterdir()} == command.rendered()


def test_a_file_that_somebody_changed_is_told_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(command.FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "ROOT", tmp_path.parent)
    (tmp_path / "dags.json").write_text("{}")
    with pytest.raises(ProblemError, match="dags.json in .* is out of date"):
        command.dashboards(check=True)
    assert (tmp_path / "dags.json").read_text() == "{}"
    command.dashboards(check=False)
    command.dashboards(check=True)
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(ProblemError, match="mine.json"):
        command.dashboards(check=False)


def test_grafana_reads_the_structure() -> None:
    """The library's model drops what it does not know, so what comes back has to be what went in."""
    for name, content in command.load().items():
        again = json.loads(JSONEncoder().encode(Dashboard.from_json(content)))
        assert again == content, name
        assert len(content["uid"]) <= 40, name


def test_every_panel_tells_what_it_shows() -> None:
    for one in EVERY:
        assert one.panel["description"].endswith("."), one
        assert one.panel["fieldConfig"]["defaults"]["unit"], one
        assert one.queries, one
        for part in (one.panel, *one.panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, one


def test_no_two_panels_of_a_dashboard_have_one_title() -> None:
    assert len({str(one) for one in EVERY}) == len(EVERY)


def test_every_panel_asks_for_what_there_is() -> None:
    wrong = [f"{one}: {line}" for one in EVERY for query in one.queries for line in unknown(filled(query), RECORDED)]
    assert not wrong, "\n".join(wrong)


def test_every_panel_shows_one_environment_by_variables_that_there_are() -> None:
    dashboards = command.load()
    for one in EVERY:
        variables = {item["name"] for item in dashboards[one.dashboard]["templating"]["list"]}
        for query in one.queries:
            for selector in read(filled(query)).selectors:
                assert 'namespace="airflow-prod"' in selector.matchers, f"{one}: {selector}"
            assert set(re.findall(r"\$(\w+)", query)) <= variables | BUILT_IN, one


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    queries = [filled(query) for one in EVERY for query in one.queries]
    rules = [{"record": "panel", "expr": query, "labels": {"number": str(i)}} for i, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    answer = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_line_stands_where_its_alert_fires() -> None:
    lined = [(one, alert) for one in EVERY if (alert := alert_of(one.panel))]
    assert len(lined) > 15
    for one, alert in lined:
        rule = load_alerts()[alert]
        low = f"< {rule['annotations']['threshold']}" in rule["expr"]
        colours = ("red", "green") if low else ("green", "red")
        value = float(rule["annotations"]["threshold"]) or 0.001
        assert line_of(one.panel) == {"value": value, "colours": colours}, one


def test_the_objectives_are_those_of_the_design() -> None:
    panels = {one.panel["title"]: one.panel for one in EVERY if one.dashboard == "overview"}
    assert line_of(panels["Tasks that end well"])["value"] == 0.992
    assert line_of(panels["Queue wait, P95"])["value"] == 60
    assert line_of(panels["Parse of a DAG file, P99"])["value"] == 5
    assert line_of(panels["Time between heartbeats"])["value"] == 30
    assert line_of(panels["Tasks without heartbeat"])["value"] == 0.001


def test_every_link_leads_to_the_runbook_of_its_alert() -> None:
    links = [link for one in EVERY for link in one.panel.get("links", [])]
    assert links
    for link in links:
        alert = link["title"].partition(": ")[2]
        assert link["url"] == f"docs/runbooks/{alert}.md"
        assert (ROOT / link["url"]).exists(), link
