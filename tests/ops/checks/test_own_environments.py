"""This repository's own environments are valid, and what they may start fits where it runs."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from airflow_ops.deps import find_archive, read_pin
from airflow_ops.values import environments


@pytest.fixture(scope="module", autouse=True)
def official_chart(helm: None) -> None:
    """Skips where the official chart cannot be had without a network."""
    if find_archive(read_pin(), os.environ) is None:
        pytest.skip("the official chart is not on this machine (airflow-ops deps)")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from airflow_ops.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.skipif(shutil.which("kubeconform") is None, reason="kubeconform is not on PATH")
def test_all_environments_are_valid() -> None:
    answer = run("validate", "all")
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("environment", environments())
def test_capacity(environment: str) -> None:
    answer = run("capacity", environment, "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    report = json.loads(answer.stdout)
    assert report["warnings"] == [], "quota and nodes bear all that may start at once, and a second colour"
    assert all(size["nodes"] for size in report["sizes"].values())
