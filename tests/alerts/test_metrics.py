"""Rules read metrics that exist, and Airflow's metrics stay few however many DAGs and tasks there are."""

import csv
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_cases import HERE, load_cases, load_rules
from exporter import TYPES, Exporter, Series, running_exporter

DAGS, TASKS = 1000, 20
SCRAPE_LABELS = {"namespace", "job", "instance", "colour"}
PARTS = {"histogram": {"_bucket": {"le"}, "_sum": set(), "_count": set()}, "summary": {"_sum": set(), "_count": set()}}


def known_metrics() -> dict[str, dict[str, str]]:
    """Metric to its row of metrics.tsv: what is scraped, what Airflow sends for it, and the event that it needs."""
    with (HERE / "metrics.tsv").open() as file:
        return {row["metric"]: row for row in csv.DictReader(file, delimiter="\t")}


def listed(text: str) -> list[str]:
    return [] if text == "-" else text.split(",")


METRICS = known_metrics()
SENT = {name: row for name, row in METRICS.items() if row["sent_as"] != "-"}


def scraped() -> dict[str, set[str]]:
    """Every series name of a scrape to the labels it may have."""
    names: dict[str, set[str]] = {}
    for metric, row in METRICS.items():
        for suffix, more in PARTS.get(row["type"], {"": set()}).items():
            if row["type"] != "dropped":
                names[metric + suffix] = set(listed(row["labels"])) | more | SCRAPE_LABELS
    return names


def selectors() -> Iterator[tuple[str, str, str]]:
    """Where, metric and labels of every selector in a rule, a case and the world of the cases."""
    selector = re.compile(r"(?<![\w:])([a-zA-Z_]\w*)\{([^{}]*)\}")
    for name, content in load_rules().items():
        for rule in (rule for group in content["groups"] for rule in group["rules"]):
            for match in selector.finditer(rule["expr"]):
                yield f"{name} {rule.get('alert', rule.get('record'))}", match[1], match[2]
    world = yaml.safe_load((HERE / "world.yaml").read_text())
    series = [(f"world.yaml {where}", name) for where, names in world.items() for name in names]
    series += [(f"cases.yaml {case.name}", name) for case in load_cases() for name in case.series]
    for where, name in series:
        match = selector.fullmatch(name)
        assert match, f"{where}: {name} is no series"
        yield where, match[1], match[2]


def test_every_metric_of_a_rule_exists_with_its_labels() -> None:
    names = scraped()
    wrong = []
    for where, metric, labels in selectors():
        used = set(re.findall(r"(\w+)\s*[=!]", labels))
        if metric not in names:
            wrong.append(f"{where}: {metric} is not in metrics.tsv")
        elif used - names[metric]:
            wrong.append(f"{where}: {metric} has no label {', '.join(sorted(used - names[metric]))}")
    assert not wrong, "\n".join(wrong)


def test_rules_read_metrics_by_selectors_with_a_namespace() -> None:
    """A rule without one would speak of another environment that the same Prometheus watches."""
    for where, metric, labels in selectors():
        if not where.startswith(("world", "cases")):
            assert 'namespace="airflow-prod"' in labels, f"{where}: {metric}"
    bare = re.compile(r"(?<![\w:])(?:(?:airflow|kube)_\w+|up)\b(?!\{)")
    for name, content in load_rules().items():
        assert not [rule for group in content["groups"] for rule in group["rules"] if bare.search(rule["expr"])], name


def test_every_label_that_a_rule_groups_by_exists() -> None:
    for name, content in load_rules().items():
        for rule in (rule for group in content["groups"] for rule in group["rules"]):
            used = {
                label.strip() for text in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in text.split(",")
            }
            read = re.findall(r"\b(\w+)\{", rule["expr"])
            there = set().union(*(scraped().get(metric, set()) for metric in read))
            assert used <= there, f"{name} {rule.get('alert', rule.get('record'))}: {used - there}"


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    if shutil.which("statsd_exporter") is None:
        pytest.skip("statsd_exporter is not on PATH")
    with running_exporter(tmp_path) as running:
        yield running


def line(row: dict[str, str], **values: str) -> str:
    """A metric as Airflow sends it with statsd_influxdb_enabled."""
    tags = "".join(f",{tag}={values.get(tag, tag)}" for tag in listed(row["tags"]))
    kind = "gauge" if row["type"] == "dropped" else row["type"]
    return f"airflow.{row['sent_as']}{tags}:1|{TYPES[kind]}"


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
