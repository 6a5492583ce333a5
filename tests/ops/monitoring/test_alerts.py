"""`airflow-ops alerts` as a person or a script calls it."""

import json
import subprocess

import yaml

from airflow_ops.paths import CHARTS
from support.command_line import airflow_ops


def alerts(*arguments: str) -> subprocess.CompletedProcess[str]:
    return airflow_ops("alerts", *arguments)


def written() -> list[str]:
    files = (CHARTS / "platform/files/rules").glob("*.yaml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]


def test_list_names_every_alert_in_full() -> None:
    answer = alerts("list")
    assert answer.returncode == 0, answer.stderr
    assert not [name for name in written() if name not in answer.stdout]


def test_list_for_a_script() -> None:
    listed = json.loads(alerts("list", "--json").stdout)
    assert {alert["name"] for alert in listed} == set(written())
    queue = next(alert for alert in listed if alert["name"] == "AirflowQueueDeep")
    assert (queue["severity"], queue["wait"], queue["threshold"]) == ("ticket", "10m", "100")


def test_explain_shows_what_is_looked_at_and_what_to_do() -> None:
    answer = alerts("explain", "AirflowQueueDeep")
    assert answer.returncode == 0, answer.stderr
    assert "airflow_executor_queued_tasks{" in answer.stdout
    assert "## Mitigation" in answer.stdout


def test_an_unknown_alert_is_an_error_that_says_where_to_look() -> None:
    answer = alerts("explain", "AirflowQueueDeeper")
    assert answer.returncode == 2
    assert "AirflowQueueDeeper" in answer.stderr
    assert "airflow-ops alerts list" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_explain_asks_for_a_name() -> None:
    answer = alerts("explain")
    assert answer.returncode == 2
    assert "NAME" in answer.stderr


def test_every_command_shows_an_example() -> None:
    for command in ("list", "explain", "test"):
        assert f"airflow-ops alerts {command}" in alerts(command, "--help").stdout
