"""Which Jobs of an earlier command are deleted; the Kubernetes API is a fake."""

from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster import jobs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.environments.environment import Environment


@pytest.mark.parametrize(("outcome", "deleted"), [("", True), ("Complete", False), ("Failed", False), (None, False)])
def test_a_job_that_has_ended_keeps_its_log(
    monkeypatch: pytest.MonkeyPatch, outcome: str | None, deleted: bool
) -> None:
    def read(*_: Any) -> Any:
        if outcome is None:
            raise ApiException(status=404)
        conditions = [SimpleNamespace(type=outcome, status="True")] if outcome else None
        return SimpleNamespace(status=SimpleNamespace(conditions=conditions))

    done: list[str] = []
    monkeypatch.setattr(Cluster, "batch", SimpleNamespace(read_namespaced_job=read))
    monkeypatch.setattr(Cluster, "kubectl", lambda _cluster, *words: done.append(words[0]))
    jobs.end(Cluster(Environment("dev"), "test"), "airflow-upgrade-migrate-1")
    assert done == (["delete"] if deleted else [])
