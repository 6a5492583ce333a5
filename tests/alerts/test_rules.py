"""Every alert fires where it should and nowhere near: promtool's own unit tests, and what they are worth."""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.alert_cases import RULES, Case, load_alerts, load_cases, load_rules, run_promtool

ALERTS = load_alerts()
CASES = load_cases()
RULE_FILES = load_rules()
SEVERITIES = {"page", "ticket"}


@pytest.fixture(scope="session")
def promtool() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not on PATH")


def file_of(alert: str) -> str:
    return next(name for name, content in RULE_FILES.items() if f"'alert': '{alert}'" in str(content))


def cases_of(alert: str) -> list[Case]:
    return [case for case in CASES if case.alert == alert]


def rules_with(alert: str, **changes: Any) -> dict[str, dict[str, Any]]:
    """The rule file of an alert, with the alert changed and without the other alerts."""
    name = file_of(alert)
    content = copy.deepcopy(RULE_FILES[name])
    for group in content["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert", alert) == alert]
    content["groups"] = [group for group in content["groups"] if group["rules"]]
    next(rule for group in content["groups"] for rule in group["rules"] if "alert" in rule).update(changes)
    return {name: content}


@pytest.mark.usefixtures("promtool")
def test_prometheus_reads_the_rule_files() -> None:
    files = [str(path) for path in sorted(RULES.glob("*.yaml"))]
    answer = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_case_in_which_it_fires_and_a_near_one(alert: str) -> None:
    firing = [alert in case.firing for case in cases_of(alert)]
    assert any(firing)
    assert not all(firing)


@pytest.mark.usefixtures("promtool")
@pytest.mark.parametrize("name", RULE_FILES)
def test_alerts_fire_where_they_should_and_nowhere_near(name: str, tmp_path: Path) -> None:
    rules = {name: RULE_FILES[name]}
    cases = [case for case in CASES if case.alert in ALERTS and file_of(case.alert) == name]
    answer = run_promtool(rules, cases, tmp_path)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.long
@pytest.mark.usefixtures("promtool")
def test_one_cause_fires_one_alert(tmp_path: Path) -> None:
    """The first firing case of every alert before all rules together, and a world where all is well."""
    firing = {case.alert: case for case in reversed(CASES) if case.alert in case.firing}
    answer = run_promtool(RULE_FILES, [CASES[0], *firing.values()], tmp_path)
    assert answer.returncode == 0, answer.stdout


def blunt(alert: str, factor: float) -> str:
    """The expression with its threshold moved away from what should cross it (2), or towards what should not (0.5)."""
    expr, threshold = ALERTS[alert]["expr"], ALERTS[alert]["annotations"]["threshold"]

    def moved(match: re.Match[str]) -> str:
        if match[1] == "<":
            return f"< {float(threshold) * (factor < 1) / factor}"
        return f"> {float(threshold) * factor or 1e6}"

    return re.sub(rf"([<>]) {re.escape(threshold)}(?=\s|$)", moved, expr)


def mutations() -> dict[str, tuple[str, dict[str, Any]]]:
    """Each alert made wrong, by a name: a threshold too high or too low, another metric, no time to wait."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for alert, rule in ALERTS.items():
        threshold = rule["annotations"].get("threshold")
        if threshold is not None:
            found[f"{alert} half as sensitive"] = (alert, {"expr": blunt(alert, 2)})
        if threshold is not None and float(threshold) > 1:
            found[f"{alert} twice as sensitive"] = (alert, {"expr": blunt(alert, 0.5)})
        for metric in sorted(set(re.findall(r"\b(?:airflow:slo_[\w:]*|[a-z_]\w*(?=\{))", rule["expr"]))):
            wrong = re.sub(rf"\b{metric}(?=[{{\s])", f"{metric}_no_more", rule["expr"])
            found[f"{alert} without {metric}"] = (alert, {"expr": wrong})
        if "for" in rule:
            found[f"{alert} at once"] = (alert, {"for": "0s"})
    return found


MUTATIONS = mutations()


@pytest.mark.usefixtures("promtool")
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_noticed(name: str, tmp_path: Path) -> None:
    alert, changes = MUTATIONS[name]
    assert any(ALERTS[alert].get(key) != value for key, value in changes.items()), "the mutation changes nothing"
    answer = run_promtool(rules_with(alert, **changes), cases_of(alert), tmp_path)
    assert answer.returncode == 1
    # A rule that promtool cannot read fails as well, but says nothing of what the cases are worth.
    assert "got:" in answer.stdout, f"{changes}: {answer.stdout}"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_is_about(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["labels"]["component"]
    assert {"summary", "description", "runbook_url"} <= rule["annotations"].keys()
    known = set()
    for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]):
        known |= {label.strip() for label in labels.split(",")}
    if "airflow:slo_" in rule["expr"]:
        known |= {"namespace", "slo"}
    # Prometheus fills texts in from the expression alone, and a rule adds a label where a part of that has none.
    known -= set(rule["labels"])
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= known


@pytest.mark.parametrize("alert", [alert for alert, rule in ALERTS.items() if "threshold" in rule["annotations"]])
def test_the_threshold_in_the_annotations_is_the_one_compared_with(alert: str) -> None:
    rule = ALERTS[alert]
    assert re.search(rf"[<>] {re.escape(rule['annotations']['threshold'])}(\s|$)", rule["expr"])
