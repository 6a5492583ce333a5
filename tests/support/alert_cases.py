"""The cases of tests/alerts/cases.yaml as unit tests of promtool: world.yaml, what a case changes, and what fires."""

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from airflow_ops.paths import CHARTS, ROOT

CASES_FOLDER = ROOT / "tests/alerts"
RULES = CHARTS / "platform/files/rules"
HOME = "airflow-prod"
SOURCES = {
    "kubelet_": {"job": "kubelet", "instance": "10.0.0.4:10250"},
    "kube_": {"job": "kube-state-metrics", "instance": "10.0.0.2:8080"},
    "airflow_database_": {"job": "airflow-database-exporter", "instance": "10.0.0.3:9103"},
    "airflow_git_mirror_": {"job": "airflow-git-mirror-headless"},
    "": {"job": "airflow-blue-statsd", "instance": "10.0.0.1:9102"},
}
"""What a scrape adds to a series, by how its name begins."""
SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Case:
    """One situation and what fires in it.

    Attributes:
        alert: The alert that it is about.
        name: Alert, whether it fires, and which of its cases it is.
        seconds: When to look.
        not_yet: When to look before that, with nothing firing yet; None: never.
        every: How often the rules are evaluated.
        series: What differs from the world; None takes a series out of it.
        firing: Names of the alerts that fire then, and no other.
    """

    alert: str
    name: str
    seconds: int
    not_yet: int | None
    every: str
    series: dict[str, str | None]
    firing: frozenset[str]


def load_rules() -> dict[str, dict[str, Any]]:
    """Rule file to its content, by file name."""
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yaml"))}


def load_alerts() -> dict[str, dict[str, Any]]:
    """Alert to its rule."""
    groups = [group for content in load_rules().values() for group in content["groups"]]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def _seconds(text: str) -> int:
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)([smh])", text))


def load_cases() -> list[Case]:
    """The cases of all alerts, a world without change before them."""
    cases = [Case("", "all is well", 75 * 60, None, "1m", {}, frozenset())]
    for alert, kinds in yaml.safe_load((CASES_FOLDER / "cases.yaml").read_text()).items():
        for kind, items in kinds.items():
            for number, item in enumerate(items, 1):
                every, series = item.get("every", "1m"), item["series"]
                firing = frozenset({alert, *item.get("also", [])} if kind == "fires" else item.get("also", []))
                not_yet = _seconds(item["not_yet"]) if "not_yet" in item else None
                name = f"{alert} {kind} {number}"
                cases.append(Case(alert, name, _seconds(item["at"]), not_yet, every, series, firing))
    return cases


def _series(name: str, namespace: str) -> str:
    """A series with the labels that a scrape adds."""
    metric, own_labels = re.fullmatch(r"([a-z_0-9]+)\{(.*)\}", name).groups()  # type: ignore[union-attr]
    own = dict(re.findall(r'(\w+)="([^"]*)"', own_labels))
    added = {"namespace": namespace} | next(labels for prefix, labels in SOURCES.items() if metric.startswith(prefix))
    inner = ", ".join(f'{key}="{value}"' for key, value in (added | own).items())
    return f"{metric}{{{inner}}}"


def _going_on(value: str, minutes: int) -> str:
    return f"{value}x{minutes}" if "+" in value else f"{value}+0x{minutes}"


def _alerts_of(rules: dict[str, dict[str, Any]]) -> set[str]:
    groups = [group for content in rules.values() for group in content["groups"]]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


@cache
def _world() -> dict[str, dict[str, str]]:
    """Namespace to its series with their values."""
    loaded: dict[str, dict[str, str]] = yaml.safe_load((CASES_FOLDER / "world.yaml").read_text())
    return loaded


def _look(seconds: int, firing: frozenset[str]) -> dict[str, Any]:
    """What fires at a time, and nothing else."""
    return {
        "expr": 'count by (alertname, namespace) (ALERTS{alertstate="firing"})',
        "eval_time": f"{seconds}s",
        "exp_samples": [
            {"labels": f'{{alertname="{alert}", namespace="{HOME}"}}', "value": 1} for alert in sorted(firing)
        ],
    }


def _unit_test(case: Case, alerts: set[str], read: set[str]) -> dict[str, Any]:
    """A case as an entry of `tests` in promtool's file.

    Args:
        case: The case.
        alerts: The alerts that the rules hold: no other can fire.
        read: Every word of the rules: a series whose name is none of them is left out.
    """
    world = _world()
    unknown = [name for name, values in case.series.items() if values is None and name not in world[HOME]]
    assert not unknown, f"{case.name} takes out what the world does not hold: {unknown}"
    values = {
        _series(name, namespace): _going_on(value, case.seconds // 60 + 10)
        for namespace, inhabitants in world.items()
        for name, value in inhabitants.items()
        if namespace != HOME or name not in case.series
    }
    values |= {_series(name, HOME): value for name, value in case.series.items() if value is not None}
    return {
        "name": case.name,
        "interval": "1m",
        "input_series": [
            {"series": name, "values": value} for name, value in values.items() if name.partition("{")[0] in read
        ],
        "promql_expr_test": [
            *([] if case.not_yet is None else [_look(case.not_yet, frozenset())]),
            _look(case.seconds, case.firing & alerts),
        ],
    }


def _write(rules: dict[str, dict[str, Any]], cases: list[Case], folder: Path) -> list[Path]:
    """Write rules and cases as promtool reads them.

    Returns:
        The files of the cases, one for each interval of evaluation.
    """
    for name, content in rules.items():
        (folder / name).write_text(_dump(content))
    alerts, read = _alerts_of(rules), set(re.findall(r"\w+", _dump(rules)))
    files = []
    for every in sorted({case.every for case in cases}):
        tests = [_unit_test(case, alerts, read) for case in cases if case.every == every]
        content = {
            "rule_files": sorted(rules),
            "evaluation_interval": every,
            # Without an order promtool takes one by chance, and what one group records comes too late for another.
            "group_eval_order": [group["name"] for name in sorted(rules) for group in rules[name]["groups"]],
            "tests": tests,
        }
        files.append(folder / f"cases-{every}.yml")
        files[-1].write_text(_dump(content))
    return files


def _dump(content: Any) -> str:
    return str(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, width=1000))


def run_promtool(rules: dict[str, dict[str, Any]], cases: list[Case], folder: Path) -> subprocess.CompletedProcess[str]:
    """`promtool test rules` of these rules on these cases, with its errors among its output."""
    command = ["promtool", "test", "rules", *map(str, _write(rules, cases, folder))]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
