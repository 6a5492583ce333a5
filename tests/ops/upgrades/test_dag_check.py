"""DAG files that only the present colour can import end an upgrade before anything of the other one works."""

import json
from typing import Any

import pytest
from kubernetes import client

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import dag_check

CLUSTER = Cluster(Environment("dev"), "test")
ERROR = "ImportError: no"


def serve(monkeypatch: pytest.MonkeyPatch, blue: list[str], green: list[str]) -> None:
    """Let the DAG processors of both colours say that they cannot import some files."""
    answers = {"blue": blue, "green": green}

    def pods(_cluster: Cluster, colour: Colour, component: str) -> list[Any]:
        assert component == "dag-processor"
        name = client.V1ObjectMeta(name=str(colour))
        return [client.V1Pod(metadata=name, status=client.V1PodStatus(phase="Running"))]

    def kubectl(_cluster: Cluster, *words: str, seconds: int) -> str:
        compile(words[-1], "program", "exec")
        return "some warning\nbroken: " + json.dumps(dict.fromkeys(answers[words[1]], ERROR))

    monkeypatch.setattr(live, "pods", pods)
    monkeypatch.setattr(Cluster, "kubectl", kubectl)


@pytest.mark.parametrize(("blue", "green"), [([], []), (["b:x.py"], ["b:x.py"]), (["b:x.py", "b:y.py"], ["b:y.py"])])
def test_what_was_broken_before_hinders_nobody(
    monkeypatch: pytest.MonkeyPatch, blue: list[str], green: list[str]
) -> None:
    serve(monkeypatch, blue, green)
    dag_check.check(CLUSTER, Colour.BLUE, Colour.GREEN)


def test_what_breaks_is_named_though_something_else_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, ["b:x.py"], ["b:y.py"])
    with pytest.raises(ProblemError, match="green cannot import DAG files that blue can: b:y.py: ImportError: no"):
        dag_check.check(CLUSTER, Colour.BLUE, Colour.GREEN)


def test_a_processor_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "pods", lambda *_: [])
    with pytest.raises(ProblemError, match="no DAG processor of green runs"):
        dag_check.check(CLUSTER, Colour.BLUE, Colour.GREEN)


def test_files_that_cannot_be_read_at_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, [], [])
    monkeypatch.setattr(Cluster, "kubectl", lambda *_, **__: "Traceback ...")
    with pytest.raises(ProblemError, match="cannot be read: Traceback"):
        dag_check.check(CLUSTER, Colour.BLUE, Colour.GREEN)
