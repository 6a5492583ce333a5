"""Every panel shows something on a live Prometheus, but those that wait for what is written in quiet_panels.yaml."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.cluster.connection import Cluster
from airflow_ops.monitoring import prometheus
from airflow_ops.monitoring.dashboards.command import filled, load, panels
from airflow_ops.monitoring.prometheus import Prometheus
from support.live_environment import Airflow, has_prometheus_operator, wait_for

QUIET = yaml.safe_load((Path(__file__).parent / "quiet_panels.yaml").read_text())
PANELS = {(name, panel["title"]): panel for name, content in load().items() for panel in panels(content)}
RANGE = "15m"
"""What `$__range` stands for: the environment may be as young."""


@pytest.fixture(scope="module")
def live(cluster: Cluster) -> Iterator[Prometheus]:
    if not has_prometheus_operator(cluster):
        pytest.skip("the cluster has no Prometheus operator")
    with prometheus.connect(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def watched(live: Prometheus, airflow: Airflow) -> Prometheus:
    """Prometheus, once it has seen scheduled and finished runs."""
    airflow.unpause("platform_check_health")
    # A counter that Prometheus sees for the first time has not increased yet, so each needs a second run.
    counters = ("dagrun_duration_success", "dagrun_first_task_start_delay", "dagrun_schedule_delay")
    namespace = airflow.cluster.namespace
    queries = [f'increase(airflow_{name}_count{{namespace="{namespace}"}}[5m]) > 0' for name in counters]
    wait_for("scheduled runs that end, in Prometheus", lambda: all(live.query(query) for query in queries), 900)
    return live


def shows(live: Prometheus, cluster: Cluster, query: str) -> bool:
    """Whether a query gives a number that can be drawn."""
    samples: list[dict[str, Any]] = live.query(filled(query, namespace=cluster.namespace, __range=RANGE))
    return any(not math.isnan(float(sample["value"][1])) for sample in samples)


def test_the_list_of_quiet_panels_names_panels() -> None:
    listed = [(name, title) for name, titles in QUIET.items() for title in titles]
    assert set(listed) <= PANELS.keys()


def test_every_query_of_every_panel_gives_a_number(watched: Prometheus, cluster: Cluster) -> None:
    empty = [
        f"{name}: {title}: {target['expr']}"
        for (name, title), panel in PANELS.items()
        if title not in QUIET.get(name, {})
        for target in panel["targets"]
        if not shows(watched, cluster, target["expr"])
    ]
    assert not empty, "\n".join(empty)


def test_prometheus_evaluates_the_quiet_panels_too(live: Prometheus, cluster: Cluster) -> None:
    for name, titles in QUIET.items():
        for title in titles:
            for target in PANELS[name, title]["targets"]:
                live.query(filled(target["expr"], namespace=cluster.namespace, __range=RANGE))
