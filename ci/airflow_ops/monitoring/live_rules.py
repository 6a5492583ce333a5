"""Rules before a live Prometheus: does each evaluate, is there what it reads, is it loaded, does it fire."""

from dataclasses import asdict, dataclass
from typing import Any

import yaml

from airflow_ops.monitoring.metrics import event_of
from airflow_ops.monitoring.prometheus import Prometheus, QueryError, Series
from airflow_ops.monitoring.promql import Selector, read

WRITTEN_FOR = "airflow-prod"
"""The namespace that the rule files name (docs/adr/0004-alert-rules-are-plain-files.md)."""


@dataclass(frozen=True)
class Unseen:
    """Something that an expression reads and that no series has now.

    Attributes:
        selector: The series that it picks.
        why: What is missing: a metric, a label, or a series with such values.
        event: What has to happen first, as metrics.tsv and events.tsv say; empty where it ought to be there.
    """

    selector: str
    why: str
    event: str


@dataclass(frozen=True)
class LiveRule:
    """One rule and what a Prometheus says of it.

    Attributes:
        name: Name of the alert, or of the series that it records.
        error: Why it does not evaluate; empty if it does.
        unseen: What it reads that is not there.
        loaded: Whether this Prometheus has it.
        state: firing, pending or inactive; empty for a recording rule and where it is not loaded.
    """

    name: str
    error: str
    unseen: tuple[Unseen, ...]
    loaded: bool
    state: str

    @property
    def blind(self) -> tuple[Unseen, ...]:
        """What ought to be there and is not."""
        return tuple(one for one in self.unseen if not one.event)

    def as_dict(self) -> dict[str, Any]:
        """For a script."""
        return asdict(self)


class Scrape:
    """The series that a Prometheus has now of one namespace, each metric asked for once."""

    def __init__(self, prometheus: Prometheus) -> None:
        """Ask this Prometheus."""
        self._prometheus = prometheus
        self._found: dict[str, list[Series]] = {}

    def series(self, selector: str) -> list[Series]:
        """Labels of what a selector matches."""
        if selector not in self._found:
            self._found[selector] = self._prometheus.series(selector)
        return self._found[selector]

    def unseen(self, expr: str) -> tuple[Unseen, ...]:
        """What an expression reads and no series has now.

        Args:
            expr: PromQL. Variables of a dashboard have to be replaced before.

        Raises:
            ValueError: It is no PromQL.
            QueryError: Prometheus does not take one of its selectors.
        """
        reading, found = read(expr), []
        labels: set[str] = set()
        for selector in reading.selectors:
            series = self._of_metric(selector)
            there = {label for one in series for label in one}
            labels |= there
            if why := self._lack(selector, series, there):
                found.append(Unseen(str(selector), why, event_of(selector)))
        if reading.selectors and not found:
            lacking = ", ".join(sorted(reading.grouped - labels))
            found += [Unseen(expr, f"grouped by {lacking}, which nothing that it reads has", "")] if lacking else []
        return tuple(found)

    def _of_metric(self, selector: Selector) -> list[Series]:
        own = [one for one in selector.matchers if one.startswith("namespace=")]
        return self.series(f"{selector.metric}{{{', '.join(own)}}}")

    def _lack(self, selector: Selector, series: list[Series], labels: set[str]) -> str:
        if not series:
            return f"no series of {selector.metric}"
        if missing := sorted(selector.labels - labels):
            return f"no series of {selector.metric} has the label {', '.join(missing)}"
        return "" if self.series(str(selector)) else "no series has these values"


def rules_of(namespace: str, contents: list[str]) -> list[dict[str, Any]]:
    """The rules of plain rule files for a namespace.

    Args:
        namespace: The environment's.
        contents: The files.
    """
    loaded = [yaml.safe_load(content.replace(WRITTEN_FOR, namespace)) for content in contents]
    return [rule for content in loaded for group in content["groups"] for rule in group["rules"]]


def look(prometheus: Prometheus, namespace: str, rules: list[dict[str, Any]]) -> list[LiveRule]:
    """Set rules before a Prometheus.

    Args:
        prometheus: The one that is asked.
        namespace: The environment's; alerts of others that it watches are not looked at.
        rules: As a rule file has them.
    """
    scrape = Scrape(prometheus)
    states = _states(prometheus, namespace)
    return [_look(prometheus, scrape, states, rule) for rule in rules]


def _states(prometheus: Prometheus, namespace: str) -> dict[str, str]:
    """Name of every loaded rule of a namespace to its state; the most urgent of several."""
    urgent = ["", "inactive", "pending", "firing"]
    found: dict[str, str] = {}
    for rule in prometheus.rules():
        if f'"{namespace}"' in rule["query"] or rule.get("labels", {}).get("namespace") == namespace:
            found[rule["name"]] = max(found.get(rule["name"], ""), rule.get("state", ""), key=urgent.index)
    return found


def _look(prometheus: Prometheus, scrape: Scrape, states: dict[str, str], rule: dict[str, Any]) -> LiveRule:
    name, error, unseen = rule.get("alert") or rule["record"], "", tuple[Unseen, ...]()
    try:
        prometheus.query(rule["expr"])
        unseen = scrape.unseen(rule["expr"])
    except (QueryError, ValueError) as problem:
        error = str(problem)
    return LiveRule(name, error, unseen, name in states, states.get(name, ""))
