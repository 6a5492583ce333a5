"""Check rules on a live Prometheus: does each evaluate, do its series exist, is it loaded, does it fire."""

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
        selector: The selector that finds nothing.
        why: What is missing: a metric, a label, or a series with such values.
        event: The event that has to happen first, from metrics.tsv and events.tsv; empty where there is none.
    """

    selector: str
    why: str
    event: str


@dataclass(frozen=True)
class LiveRule:
    """One rule and its state on a Prometheus.

    Attributes:
        name: Name of the alert, or of the series that it records.
        error: Why it does not evaluate; empty if it does.
        unseen: What it reads and no series has.
        loaded: Whether this Prometheus has loaded it.
        state: firing, pending or inactive; empty for a recording rule and where it is not loaded.
    """

    name: str
    error: str
    unseen: tuple[Unseen, ...]
    loaded: bool
    state: str

    @property
    def missing(self) -> tuple[Unseen, ...]:
        """The parts of `unseen` that need no event first, so that the rule cannot work."""
        return tuple(one for one in self.unseen if not one.event)

    def as_dict(self) -> dict[str, Any]:
        """The rule for JSON."""
        return asdict(self)


class Scrape:
    """The series that a Prometheus has now; each selector is queried once."""

    def __init__(self, prometheus: Prometheus) -> None:
        """Query this Prometheus."""
        self._prometheus = prometheus
        self._found: dict[str, list[Series]] = {}

    def series(self, selector: str) -> list[Series]:
        """Labels of the series that a selector matches."""
        if selector not in self._found:
            self._found[selector] = self._prometheus.series(selector)
        return self._found[selector]

    def unseen(self, expr: str) -> tuple[Unseen, ...]:
        """What an expression reads and no series has now.

        Args:
            expr: PromQL. Variables of a dashboard have to be replaced before.

        Raises:
            ValueError: It is not PromQL.
            QueryError: Prometheus refuses one of its selectors.
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
    """The rules of rule files, changed to a namespace.

    Args:
        namespace: The environment's namespace.
        contents: The text of each file.
    """
    loaded = [yaml.safe_load(content.replace(WRITTEN_FOR, namespace)) for content in contents]
    return [rule for content in loaded for group in content["groups"] for rule in group["rules"]]


def check_rules(prometheus: Prometheus, namespace: str, rules: list[dict[str, Any]]) -> list[LiveRule]:
    """Check rules on a Prometheus.

    Args:
        prometheus: The Prometheus.
        namespace: The environment's namespace; rules of other namespaces are ignored.
        rules: The rules, with the keys of a rule file.
    """
    scrape = Scrape(prometheus)
    states = _states(prometheus, namespace)
    return [_check_rule(prometheus, scrape, states, rule) for rule in rules]


def _states(prometheus: Prometheus, namespace: str) -> dict[str, str]:
    """Name of every loaded rule of a namespace to its state; of several rules with one name the most urgent state."""
    urgent = ["", "inactive", "pending", "firing"]
    found: dict[str, str] = {}
    for rule in prometheus.rules():
        if f'"{namespace}"' in rule["query"] or rule.get("labels", {}).get("namespace") == namespace:
            found[rule["name"]] = max(found.get(rule["name"], ""), rule.get("state", ""), key=urgent.index)
    return found


def _check_rule(prometheus: Prometheus, scrape: Scrape, states: dict[str, str], rule: dict[str, Any]) -> LiveRule:
    name, error, unseen = rule.get("alert") or rule["record"], "", tuple[Unseen, ...]()
    try:
        prometheus.query(rule["expr"])
        unseen = scrape.unseen(rule["expr"])
    except (QueryError, ValueError) as problem:
        error = str(problem)
    return LiveRule(name, error, unseen, name in states, states.get(name, ""))
