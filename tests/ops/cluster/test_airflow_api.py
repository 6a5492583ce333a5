"""What is asked of Airflow's REST API; its answers are fakes."""

import json
from types import SimpleNamespace

import pytest
from airflow_client.client import ApiClient, DAGApi
from airflow_client.client.exceptions import ApiException, NotFoundException

from airflow_ops.cluster import airflow_api
from airflow_ops.cluster.api_errors import as_problem


@pytest.mark.parametrize(
    ("status", "body", "can_run"),
    [(200, {"is_stale": False}, True), (200, {"is_stale": True}, False), (404, {"detail": "not found"}, False)],
)
def test_a_stale_dag_cannot_run(
    monkeypatch: pytest.MonkeyPatch, status: int, body: dict[str, object], can_run: bool
) -> None:
    answer = SimpleNamespace(status=status, reason="", data=json.dumps(body))
    monkeypatch.setattr(DAGApi, "patch_dag_without_preload_content", lambda *_: answer)
    assert airflow_api.unpause(ApiClient(), "canary") is can_run


def test_a_refusal_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = SimpleNamespace(status=403, reason="Forbidden", data="")
    monkeypatch.setattr(DAGApi, "patch_dag_without_preload_content", lambda *_: refusal)
    with pytest.raises(ApiException):
        airflow_api.unpause(ApiClient(), "canary")


def test_what_airflow_refuses_is_no_traceback() -> None:
    found = as_problem(NotFoundException(status=404, reason="Not Found", body='{"detail": "no DAG"}'))
    assert found is not None
    assert 'Airflow\'s REST API answers 404 Not Found: {"detail": "no DAG"}' in found.message
