"""A command as a Job in the cluster: what the Job runs, what is printed, and its exit code; Kubernetes is a fake."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.upgrades import in_cluster_job

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def pod(name: str, minute: int, phase: str, code: int | None = None) -> Any:
    ended = None if code is None else SimpleNamespace(exit_code=code)
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name, creation_timestamp=NOW + timedelta(minutes=minute)),
        status=SimpleNamespace(
            phase=phase, container_statuses=[SimpleNamespace(state=SimpleNamespace(terminated=ended))]
        ),
    )


def follow(monkeypatch: pytest.MonkeyPatch, pods: list[Any], outcome: str) -> tuple[int, list[str]]:
    """The exit code of a Job with these pods, and the pods whose logs were printed."""
    printed: list[str] = []
    listing = SimpleNamespace(list_namespaced_pod=lambda *_, **__: SimpleNamespace(items=pods))
    monkeypatch.setattr(Cluster, "core", listing)
    monkeypatch.setattr(in_cluster_job.jobs, "outcome_of", lambda *_: outcome)
    monkeypatch.setattr(programs, "find", lambda name: name)
    monkeypatch.setattr(in_cluster_job, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: printed.append(command[command.index("--follow") + 1]))
    return in_cluster_job._follow(Cluster(Environment("dev"), "test"), "job"), printed


def test_the_exit_code_is_that_of_the_last_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    drained, last = pod("drained", 0, "Failed", 143), pod("last", 1, "Succeeded", 0)
    assert follow(monkeypatch, [last, drained], "Complete") == (0, ["drained", "last"])


def test_a_command_that_fails_fails_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert follow(monkeypatch, [pod("only", 0, "Failed", 3)], "Failed") == (3, ["only"])


def test_a_log_that_ends_before_its_pod_is_followed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, ended = pod("only", 0, "Running"), pod("only", 0, "Succeeded", 0)
    looks = [[runs], [runs], [ended]]
    printed: list[str] = []
    monkeypatch.setattr(in_cluster_job, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(in_cluster_job, "_pods", lambda *_: looks.pop(0) if len(looks) > 1 else looks[0])
    monkeypatch.setattr(in_cluster_job.jobs, "outcome_of", lambda *_: "Complete" if len(looks) == 1 else "")
    monkeypatch.setattr(programs, "find", lambda name: name)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: printed.append(command[-1]))
    assert in_cluster_job._follow(Cluster(Environment("dev"), "test"), "job") == 0
    assert printed == ["only", "--since=0s"], "the second time without what was printed"


def test_a_pod_that_its_node_has_refused_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = pod("refused", 0, "Failed")
    refused.status.container_statuses = None
    assert follow(monkeypatch, [refused, pod("last", 1, "Succeeded", 0)], "Complete") == (0, ["refused", "last"])


def test_a_job_whose_pods_are_gone_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert follow(monkeypatch, [], "Failed") == (1, [])


def test_a_job_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_cluster_job, "START_SECONDS", 0)
    monkeypatch.setattr(in_cluster_job, "pod_evidence", lambda _cluster, pod: [f"{pod.metadata.name}: no image"])
    with pytest.raises(ProblemError, match="has not started after 0 s") as caught:
        follow(monkeypatch, [pod("waits", 0, "Pending")], "")
    assert "waits: no image" in caught.value.message


def test_the_job_runs_the_command_of_a_commit() -> None:
    container = {"name": "run", "args": ["--help"], "env": [{"name": "REVISION", "value": ""}, {"name": "HOME"}]}
    template = {"spec": {"backoffLimit": 6, "template": {"spec": {"containers": [container]}}}}
    found = {"metadata": {"name": "airflow-operations"}, "spec": {"jobTemplate": template}}
    job = in_cluster_job.job_of(found, "abc123", ("upgrade", "dev", "--to", "3.3.2"))
    assert job["metadata"]["name"].startswith("airflow-operations-upgrade-20")
    (run,) = job["spec"]["template"]["spec"]["containers"]
    assert run["args"] == ["upgrade", "dev", "--to", "3.3.2"]
    assert {"name": "REVISION", "value": "abc123"} in run["env"]
    assert len(run["env"]) == 2


def test_changes_that_are_not_committed_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(in_cluster_job, "ROOT", tmp_path)
    (tmp_path / "values").mkdir()
    (tmp_path / "values/dev.yaml").write_text("a: 1\n")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    assert len(in_cluster_job.commit()) == 40
    (tmp_path / "notes").write_text("nothing that the Job reads\n")
    in_cluster_job.commit()
    (tmp_path / "values/dev.yaml").write_text("a: 2\n")
    with pytest.raises(ProblemError, match=r"values/dev\.yaml has changes that are not committed"):
        in_cluster_job.commit()


def test_what_is_no_checkout_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(in_cluster_job, "ROOT", tmp_path)
    with pytest.raises(ProblemError, match="is not a checkout that Git can read"):
        in_cluster_job.commit()
