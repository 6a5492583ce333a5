"""Rules read metrics that exist, and Airflow's metrics stay few however many DAGs and tasks there are."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.monitoring.metrics import selector_events, unknown
from airflow_ops.monitoring.promql import read
from support.alert_cases import CASES_FOLDER, load_cases, load_rules
from support.statsd_exporter import Exporter, Series, known_metrics, line, listed, running_exporter

DAGS, TASKS = 1000, 20


METRICS = known_metrics()
SENT = {name: row for name, row in METRICS.items() if row["sent_as"] != "-"}


RULES = [
    (f"{name} {rule.get('alert', rule.get('record'))}", rule)
    for name, content in load_rules().items()
    for group in content["groups"]
    for rule in group["rules"]
]
RECORDED = frozenset(rule["record"] for _, rule in RULES if "record" in rule)


def series_of_cases() -> Iterator[tuple[str, str]]:
    """Where and series of every case and of the world of the cases."""
    world = yaml.safe_load((CASES_FOLDER / "world.yaml").read_text())
    for where, names in world.items():
        for name in names:
            yield f"world.yaml {where}", name
    for case in load_cases():
        for name in case.series:
            yield f"cases.yaml {case.name}", name


def test_every_metric_and_label_of_a_rule_exists() -> None:
    wrong = [f"{where}: {line}" for where, rule in RULES for line in unknown(rule["expr"], RECORDED)]
    assert not wrong, "\n".join(wrong)


def test_every_metric_and_label_of_a_case_exists() -> None:
    wrong = [f"{where}: {line}" for where, series in series_of_cases() for line in unknown(series)]
    assert not wrong, "\n".join(wrong)


def test_rules_read_metrics_by_selectors_with_a_namespace() -> None:
    """A rule without one would speak of another environment that the same Prometheus watches."""
    for where, rule in RULES:
        for selector in read(rule["expr"]).selectors:
            joined = selector.metric == "airflow:slo_budget:ratio"  # by namespace, in the rules that read it
            # What watches the whole cluster exports the namespace as exported_namespace, unless labels are honoured.
            bound = {'namespace="airflow-prod"', 'exported_namespace="airflow-prod"'} & set(selector.matchers)
            assert joined or bound, f"{where}: {selector}"


def test_every_event_by_selector_is_of_a_rule() -> None:
    read_by_rules = [selector for _, rule in RULES for selector in read(rule["expr"]).selectors]
    for rarer, _ in selector_events():
        assert any(one.metric == rarer.metric and set(rarer.matchers) <= set(one.matchers) for one in read_by_rules), (
            f"events.tsv: no rule reads {rarer}"
        )


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    if shutil.which("statsd_exporter") is None:
        pytest.skip("statsd_exporter is not on PATH")
    with running_exporter(tmp_path) as running:
        yield running


def base(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name) if name not in METRICS else name


def labels_of(series: set[Series]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, labels in series:
        found.setdefault(base(name), set()).update(key for key, _ in labels if key != "le")
    return found


def test_the_exporter_gives_what_the_list_says(exporter: Exporter) -> None:
    exporter.send(line(row) for row in SENT.values())
    expected = {name: set(listed(row["labels"])) for name, row in SENT.items() if row["type"] != "dropped"}
    assert labels_of(exporter.scrape()) == expected
    types = dict(re.findall(r"^# TYPE (airflow_\w+) (\w+)$", exporter.scrape_text(), re.MULTILINE))
    assert types == {name: row["type"] for name, row in SENT.items() if row["type"] != "dropped"}


def test_what_airflow_names_after_a_dag_or_a_file_is_dropped(exporter: Exporter) -> None:
    exporter.send(
        [
            "airflow.dagrun.load_daily.first_task_scheduling_delay,dag_id=load_daily:3|ms",
            "airflow.dagrun.team.load.daily.first_task_scheduling_delay,dag_id=team.load.daily:3|ms",
            "airflow.dag_processing.last_num_of_db_queries.load.py:3|g",
            "airflow.dagrun.first_task_scheduling_delay,dag_id=load_daily:3|ms",
        ]
    )
    assert labels_of(exporter.scrape()).keys() == {"airflow_dagrun_first_task_scheduling_delay"}


def test_parse_times_are_seconds(exporter: Exporter) -> None:
    """Airflow sends 6.5 seconds as 6.5 milliseconds."""
    exporter.send(["airflow.dag_processing.last_duration,bundle_name=platform,file_name=a:6.5|ms"])
    assert 'airflow_dag_processing_last_duration_sum{bundle_name="platform",file_name=""} 6.5' in exporter.scrape_text()


def test_counts_of_tasks_are_added_up(exporter: Exporter) -> None:
    exporter.send(f"airflow.ti.finish,dag_id=d{n % 3},task_id=t{n},state=failed:1|c" for n in range(12))
    assert re.search(r'airflow_ti_finish\{[^}]*state="failed"[^}]*\} 12\b', exporter.scrape_text())


def test_a_thousand_dags_stay_within_bounds(exporter: Exporter, record_property: Any) -> None:
    """Twenty tasks each; the bound is by DAG, so that tasks and files cost nothing."""
    lines = []
    for row in SENT.values():
        tags = listed(row["tags"])
        dags = [f"dag_{n}" for n in range(DAGS)] if {"dag_id", "file_name", "file_path"} & set(tags) else [""]
        tasks = [f"task_{n}" for n in range(TASKS)] if "task_id" in tags else [""]
        states = ["success", "failed", "skipped", "up_for_retry"] if "state" in tags else [""]
        types = ["scheduled", "manual", "backfill"] if "run_type" in tags and "task_id" not in tags else [""]
        lines += [
            line(row, dag_id=dag, task_id=task, state=state, run_type=kind, file_name=dag, file_path=f"{dag}.py")
            for dag in dags
            for task in tasks
            for state in states[: 1 if task else None]
            for kind in types
        ]
    exporter.send(lines)
    series = exporter.scrape()
    by_dag = Counter(base(name) for name, labels in series if dict(labels).get("dag_id") == "dag_7")
    record_property("series", len(series))
    assert not {"task_id", "file_name", "file_path", "dagrun_id"} & {key for _, labels in series for key, _ in labels}
    assert sum(by_dag.values()) <= 40, by_dag
    assert len(series) <= 40 * DAGS + 500
