"""This repository's own environments are valid, and what they may start fits where it runs."""

import shutil
import subprocess
import sys

import pytest

from airflow_ops.checks.assessment import Demand, Report, assess
from airflow_ops.dags.inspection import inspect_environments, loaded_tasks
from airflow_ops.environments.environment import Environment, environment_names
from airflow_ops.paths import DAGS
from support.chart_rendering import Charts

pytestmark = pytest.mark.xdist_group("own_environments")  # what the module makes is made once


@pytest.mark.usefixtures("charts")
@pytest.mark.skipif(shutil.which("kubeconform") is None, reason="kubeconform is not on PATH")
def test_all_environments_are_valid() -> None:
    command = [sys.executable, "-c", "from airflow_ops.cli import main; main()", "validate", "all"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def reports(charts: Charts) -> dict[str, Report]:
    """What `airflow-ops capacity` finds, by environment. Airflow starts once; test_capacity.py runs the command."""
    facts = {
        name: Demand(charts.environment(name).manifests, Environment.load(name).values) for name in environment_names()
    }
    inspected = inspect_environments(DAGS, {name: each.executors for name, each in facts.items()})
    return {name: assess(name, facts[name], loaded_tasks(inspected[name])) for name in facts}


@pytest.mark.parametrize("environment", environment_names())
def test_capacity(reports: dict[str, Report], environment: str) -> None:
    report = reports[environment]
    assert report.errors == []
    assert report.warnings == [], "quota and nodes bear all that may start at once, and a second colour"
    assert report.sizes
    assert all(size.nodes for size in report.sizes)
