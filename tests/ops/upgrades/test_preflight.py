"""What an upgrade looks at before it begins."""

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_ops.cluster.connection import StoredSecret
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import preflight


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One whose colour waits at its start; `secrets` are those that it has."""
    monkeypatch.setattr(preflight.live, "has_gate", lambda *_: True)
    secrets: dict[str, StoredSecret] = {}
    environment = Environment.load("dev")
    return SimpleNamespace(environment=environment, namespace="airflow-dev", secrets=secrets, stored_secret=secrets.get)


def test_a_platform_without_the_login_of_the_new_components_is_deployed_first(cluster: Any) -> None:
    with pytest.raises(ProblemError, match="no Secret airflow-metadata-dag-code") as refused:
        preflight.check_source(cluster, Colour.BLUE)
    assert "present version of Airflow" in refused.value.fix


def test_a_platform_that_has_it_needs_nothing(cluster: Any) -> None:
    cluster.secrets["airflow-metadata-dag-code"] = StoredSecret({}, "1")
    preflight.check_source(cluster, Colour.BLUE)
