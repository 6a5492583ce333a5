"""`airflow-ops alerts routing` where routing is off; tests/alerts/test_routing.py gives its output to Alertmanager."""

import subprocess

import pytest

from airflow_ops.paths import ROOT

OPS = ROOT / ".venv/bin/airflow-ops"


@pytest.mark.usefixtures("charts")
def test_an_environment_without_routing_is_an_error_that_says_what_to_do() -> None:
    answer = subprocess.run([OPS, "alerts", "routing", "prod"], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "platform.monitoring.routing.enabled" in answer.stderr
