"""Programs that hang end with a message; one that waits for something gets the time that its wait may take."""

from pathlib import Path

import pytest

from airflow_ops import programs
from airflow_ops.cluster import rollouts
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubectl that answers after a second and a half, where programs get one second."""
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\nsleep 1.5\necho $*\n")
    program.chmod(0o755)
    monkeypatch.setattr(programs, "find", lambda _name: str(program))
    monkeypatch.setattr(programs, "TIMEOUT_SECONDS", 1)


@pytest.mark.usefixtures("slow")
def test_a_program_that_does_not_end_is_named_with_its_arguments() -> None:
    with pytest.raises(ProblemError, match="kubectl get pods did not end within 1 s"):
        programs.run("kubectl", ["get", "pods"])


@pytest.mark.usefixtures("slow")
def test_one_that_waits_gets_the_time_of_its_wait() -> None:
    """A rollout may take 15 minutes, and was ended after the two minutes of any other call."""
    cluster = Cluster(Environment("dev"), "lab")
    assert "rollout status" in cluster.kubectl("rollout", "status", seconds=rollouts.ROLLOUT_SECONDS)
