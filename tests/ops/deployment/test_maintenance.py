"""A maintenance window ends as it began if anything fails in it before the migration."""

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_ops.cluster import components, jobs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.console import ProblemError, fail
from airflow_ops.deployment import maintenance
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.recovery import backup as backups

CLUSTER = Cluster(Environment.load("dev"), "test")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order; nothing fails and no task runs."""
    made: list[str] = []
    monkeypatch.setattr(components, "stop", lambda _cluster, names=("all",): made.append(f"stop {len(names)}"))
    monkeypatch.setattr(components, "start", lambda *_: made.append("start"))
    monkeypatch.setattr(components, "stopped_deployments", lambda _cluster: {})
    monkeypatch.setattr(live, "worker_pods", lambda *_: [])
    monkeypatch.setattr(backups, "cron_job", lambda _cluster: {})
    monkeypatch.setattr(backups, "backup_job", lambda found: found)
    monkeypatch.setattr(jobs, "run_for_result", lambda *_: made.append("backup") or {"name": "b"})
    return made


def test_first_nothing_starts_then_all_stops_then_it_is_backed_up(done: list[str]) -> None:
    maintenance.begin(CLUSTER, 0)
    assert done == ["stop 3", "stop 1", "backup"]


@pytest.mark.parametrize("colour", list(Colour))
def test_tasks_of_either_colour_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, done: list[str], colour: Colour
) -> None:
    pod = SimpleNamespace(metadata=SimpleNamespace(name="load-extract"))
    monkeypatch.setattr(live, "worker_pods", lambda _cluster, of: [pod] if of is colour else [])
    with pytest.raises(ProblemError, match="1 tasks still run after 0 s, such as load-extract"):
        maintenance.begin(CLUSTER, 0)
    assert done == ["stop 3", "start"]


@pytest.mark.parametrize("error", [fail("no room", "Make room."), KeyboardInterrupt(), SystemExit(143)])
def test_whatever_ends_it_airflow_is_started_again(
    monkeypatch: pytest.MonkeyPatch, done: list[str], error: BaseException
) -> None:
    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(jobs, "run_for_result", fails)
    with pytest.raises(type(error)):
        maintenance.begin(CLUSTER, 0)
    assert done[-1] == "start"
