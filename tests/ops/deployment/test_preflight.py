"""In which order a preflight looks, and what it makes."""

from typing import Any

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError, fail
from airflow_ops.deployment import preflight
from airflow_ops.environments.environment import Environment

SCHEMA = preflight.Schema({"alembic_version": "b"}, {})


class Commands:
    """What kubectl is asked; it knows no priority class."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of kubectl."""
        self.asked: list[str] = []
        monkeypatch.setattr(Cluster, "kubectl", lambda _, *arguments, **__: self.asked.append(arguments[0]) or "")


@pytest.mark.parametrize("broken", ["check_secrets", "probe_image"])
def test_nothing_is_made_for_the_whole_cluster_before_all_else_is_right(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def refuse(*_: Any) -> None:
        raise fail("the image does not start.", "Correct it.")

    commands = Commands(monkeypatch)
    monkeypatch.setattr(preflight, "check_secrets", lambda *_: None)
    monkeypatch.setattr(preflight, "check_pooler", lambda *_: None)
    monkeypatch.setattr(preflight, broken, refuse)
    with pytest.raises(ProblemError, match="the image does not start"):
        preflight.check_cluster(Cluster(Environment.load("dev"), "test"), [])
    assert "apply" not in commands.asked


def test_missing_priority_classes_are_made_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(monkeypatch)
    monkeypatch.setattr(preflight, "check_secrets", lambda *_: commands.asked.append("secrets"))
    monkeypatch.setattr(preflight, "check_pooler", lambda *_: commands.asked.append("pooler"))

    def probe(_: Cluster) -> preflight.Schema:
        commands.asked.append("probe")
        return SCHEMA

    monkeypatch.setattr(preflight, "probe_image", probe)
    assert preflight.check_cluster(Cluster(Environment.load("dev"), "test"), []) == SCHEMA
    assert commands.asked == ["secrets", "pooler", "probe", "get", "apply"]


def test_the_pod_that_tries_the_image_needs_no_priority_class() -> None:
    assert "priorityClassName" not in preflight._probe(Environment.load("dev"), [])["spec"]
