"""An environment is deployed to its own clusters only."""

import shutil
from pathlib import Path

import pytest
import yaml

from airflow_ops import kube
from airflow_ops.console import ProblemError


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig whose current context is `elsewhere`, with nothing listening behind it."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "elsewhere", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "elsewhere",
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    allowed = tmp_path / "contexts.yaml"
    monkeypatch.setattr(kube, "CONTEXTS", allowed)
    monkeypatch.setattr(kube, "ROOT", tmp_path)
    return allowed


def test_a_context_that_is_not_the_environments_is_refused_before_anything_is_asked(contexts: Path) -> None:
    contexts.write_text("dev: [kind-airflow]\nprod: [production]\n")
    with pytest.raises(ProblemError, match="'elsewhere' is not a cluster of prod: contexts.yaml allows production"):
        kube.connect("prod")


def test_an_environment_without_a_cluster_says_so(contexts: Path) -> None:
    contexts.write_text("prod: []\n")
    with pytest.raises(ProblemError, match="allows none") as caught:
        kube.connect("prod")
    assert caught.value.exit_code == 2


def test_a_cluster_that_does_not_answer_is_named(contexts: Path) -> None:
    contexts.write_text("dev: [elsewhere]\n")
    with pytest.raises(ProblemError, match="the cluster of 'elsewhere' does not answer"):
        kube.connect("dev")


def test_no_context_at_all_is_reported(contexts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts.write_text("dev: [elsewhere]\n")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(ProblemError, match="kubectl has no current context"):
        kube.connect("dev")


def test_this_repositorys_own_list_has_every_environment() -> None:
    named = yaml.safe_load(kube.CONTEXTS.read_text())
    assert set(named) == {"dev", "staging", "prod"}
    assert "kind-airflow" in named["dev"]
