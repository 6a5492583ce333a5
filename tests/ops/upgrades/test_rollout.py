"""An upgrade waits for the pods of the present configuration, not for those that they replace."""

from types import SimpleNamespace
from typing import cast

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.console import ProblemError
from airflow_ops.manifests.objects import Colour

READY = {"observed_generation": 2, "replicas": 2, "updated_replicas": 2, "available_replicas": 2}


def wait(monkeypatch: pytest.MonkeyPatch, **status: int | None) -> None:
    deployment = SimpleNamespace(
        metadata=SimpleNamespace(generation=2),
        spec=SimpleNamespace(replicas=2),
        status=SimpleNamespace(**{**READY, **status}),
    )
    apps = SimpleNamespace(read_namespaced_deployment=lambda *_: deployment)
    monkeypatch.setattr(live, "READY_SECONDS", 0)
    monkeypatch.setattr(live, "pods", lambda *_: [])
    live.wait_until_ready(cast(Cluster, SimpleNamespace(apps=apps, namespace="n")), Colour.GREEN, live.API_SERVER)


def test_a_finished_rollout_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    wait(monkeypatch)


@pytest.mark.parametrize(
    "status",
    [
        {"observed_generation": 1},  # The controller has not seen the change.
        {"observed_generation": None, "replicas": None, "updated_replicas": None, "available_replicas": None},
        {"replicas": 3, "updated_replicas": 1},  # The old pods are the ready ones.
        {"replicas": 3},  # An old pod is left, and still gets requests.
        {"available_replicas": 1},
    ],
)
def test_one_that_goes_on_is_not(monkeypatch: pytest.MonkeyPatch, status: dict[str, int | None]) -> None:
    with pytest.raises(ProblemError, match="airflow-green-api-server is not ready"):
        wait(monkeypatch, **status)
