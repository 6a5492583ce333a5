"""What a killed Helm leaves behind: a release that is pending, which nobody may clear while somebody runs Helm."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import TRY_AGAIN, RefusalError
from airflow_ops.deployment import helm
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Release

DEV = Environment("dev")


def clear(monkeypatch: pytest.MonkeyPatch, age: float, cut_off_age: float | None) -> list[tuple[str, ...]]:
    """What is deleted of a release that has been pending for `age` seconds."""
    now = datetime.now(UTC)
    found = {
        "updated": f"{now - timedelta(seconds=age):%Y-%m-%dT%H:%M:%SZ}",
        "status": "pending-upgrade",
        "revision": "7",
    }
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(programs, "run", lambda *_: SimpleNamespace(stdout=json.dumps([found])))
    monkeypatch.setattr(Cluster, "kubectl", lambda _cluster, *words: done.append(words))
    cut_off = None if cut_off_age is None else now - timedelta(seconds=cut_off_age)
    helm._clear_pending(Cluster(DEV, "test"), Release("airflow-green", "airflow", DEV), cut_off)
    return done


DELETED = [("delete", "secret", "sh.helm.release.v1.airflow-green.v7")]


def test_a_helm_that_may_still_run_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusalError, match="has been pending-upgrade for") as caught:
        clear(monkeypatch, 5, None)
    assert caught.value.exit_code == TRY_AGAIN, "a Job in the cluster is run again"


def test_after_a_quarter_of_an_hour_nobody_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clear(monkeypatch, 901, None) == DELETED


def test_the_helm_of_a_command_that_was_killed_in_this_state_has_ended_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clear(monkeypatch, 5, 5.9) == DELETED


def test_a_helm_from_before_this_state_is_not_of_that_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusalError):
        clear(monkeypatch, 60, 5)
