"""The metrics of all scrapes, from charts/platform/files/metrics, and what an expression reads that is not there."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from airflow_ops.monitoring.promql import SCRAPE_LABELS, Selector, read
from airflow_ops.paths import ROOT

LISTS = ROOT / "charts/platform/files/metrics"
PARTS = {
    "histogram": {"_bucket": {"le"}, "_sum": set(), "_count": set()},
    "summary": {"": {"quantile"}, "_sum": set(), "_count": set()},
}
"""Type of a metric to the suffixes of its series and the labels that they add."""


@dataclass(frozen=True)
class Metric:
    """A series name of a scrape.

    Attributes:
        name: The name in a scrape, including the suffix of a histogram or summary.
        labels: Labels that its series may have.
        event: What has to happen before such a series exists; empty where one always exists.
    """

    name: str
    labels: frozenset[str]
    event: str


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return [
            {key: "" if text == "-" else text for key, text in row.items()}
            for row in csv.DictReader(file, delimiter="\t")
        ]


@cache
def known_metrics() -> dict[str, Metric]:
    """Series name to its metric, from metrics.tsv, without those that the exporter's mapping drops."""
    found = {}
    for row in _rows(LISTS / "metrics.tsv"):
        if row["type"] == "dropped":
            continue
        labels = set(filter(None, row["labels"].split(",")))
        if row["type"] == "summary":
            labels.discard("quantile")
        for suffix, more in PARTS.get(row["type"], {"": set[str]()}).items():
            name = row["metric"] + suffix
            found[name] = Metric(name, frozenset(labels | more | SCRAPE_LABELS), row["event"])
    return found


@cache
def selector_events() -> list[tuple[Selector, str]]:
    """Selectors that match nothing before an event although their metric exists, with the event: events.tsv."""
    return [(read(row["selector"]).selectors[0], row["event"]) for row in _rows(LISTS / "events.tsv")]


def event_of(selector: Selector) -> str:
    """What has to happen before a selector matches a series; empty where it always does."""
    for rarer, event in selector_events():
        if rarer.metric == selector.metric and set(rarer.matchers) <= set(selector.matchers):
            return event
    metric = known_metrics().get(selector.metric)
    return metric.event if metric else ""


def unknown(expr: str, recorded: frozenset[str] = frozenset()) -> list[str]:
    """What an expression reads and no scrape has, a line each.

    Args:
        expr: PromQL. Variables of a dashboard have to be replaced before.
        recorded: Names of series that recording rules make; their labels are not checked.

    Raises:
        ValueError: It is not PromQL.
    """
    reading, known, lines = read(expr), known_metrics(), []
    there: set[str] = set()
    for selector in reading.selectors:
        if selector.metric in recorded:
            there |= reading.grouped
        elif selector.metric not in known:
            lines.append(f"{selector.metric} is not in metrics.tsv")
        else:
            there |= known[selector.metric].labels
            lines += [
                f"{selector.metric} has no label {label}"
                for label in sorted(selector.labels - known[selector.metric].labels)
            ]
    if reading.selectors and not lines:
        lines += [f"nothing that it reads has the label {label}" for label in sorted(reading.grouped - there)]
    return lines
