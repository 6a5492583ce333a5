"""An environment is deployed to its own clusters only."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.cluster import connection
from airflow_ops.console import TRY_AGAIN, ProblemError
from airflow_ops.environments.environment import Environment
from support.command_line import airflow_ops


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
    return path


def environment(name: str, *contexts: str) -> Environment:
    return Environment(name, contexts)


def test_a_context_that_is_not_the_environments_is_refused_before_anything_is_asked(contexts: Path) -> None:
    complaint = "'elsewhere' is not a cluster of prod: k8s/environments.yaml allows production"
    with pytest.raises(ProblemError, match=complaint):
        connection.connect(environment("prod", "production"))


def test_an_environment_without_a_cluster_says_so(contexts: Path) -> None:
    with pytest.raises(ProblemError, match="allows none") as caught:
        connection.connect(environment("prod"))
    assert caught.value.exit_code == 2


def test_a_cluster_that_does_not_answer_is_named(contexts: Path) -> None:
    with pytest.raises(ProblemError, match="the cluster of 'elsewhere' does not answer"):
        connection.connect(environment("dev", "elsewhere"))


@pytest.mark.parametrize(
    ("own", "complaint"),
    [
        ("airflow-prod", "the cluster of 'in-cluster' does not answer"),
        ("airflow-dev", "'in-cluster' is not a cluster of prod"),
        (None, "'in-cluster' is not a cluster of prod"),
    ],
)
def test_a_pod_works_on_its_own_environment_only(
    contexts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, complaint: str
) -> None:
    contexts.write_text(contexts.read_text().replace("elsewhere", "in-cluster"))
    file = tmp_path / "namespace"
    if own:
        file.write_text(own)
    monkeypatch.setattr(connection, "NAMESPACE_FILE", file)
    with pytest.raises(ProblemError, match=complaint):
        connection.connect(environment("prod", "production"))


def test_no_context_at_all_is_reported(contexts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(ProblemError, match="kubectl has no current context"):
        connection.connect(environment("dev", "elsewhere"))


@pytest.mark.parametrize(
    "verb",
    [
        "deploy prod",
        "smoke prod",
        "diff prod --live",
        "backup prod",
        "restore prod",
        "rotate api prod",
        "alerts test prod",
        "dags inspect platform_run_canary --env prod",
    ],
)
def test_every_verb_refuses_the_cluster_of_another_environment(contexts: Path, verb: str) -> None:
    """`diff prod --live` on dev's cluster once reported that everything would be added."""
    answer = airflow_ops(*verb.split())
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "'elsewhere' is not a cluster of prod" in " ".join(answer.stderr.split())


class Refusing(BaseHTTPRequestHandler):
    """An API server that says its version, and answers 403 to all else, or nothing at all."""

    silent = False

    def do_GET(self) -> None:
        if self.path.startswith("/version"):
            code, body = 200, {"major": "1", "minor": "34"}
        elif self.silent:
            self.close_connection = True
            return
        else:
            code, body = 403, {"kind": "Status", "message": "secrets is [/forbidden]", "code": 403}
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def refusing(contexts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The context is one of dev's, and a server that refuses is behind it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    config = yaml.safe_load(contexts.read_text())
    config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{server.server_port}"
    contexts.write_text(yaml.safe_dump(config).replace("elsewhere", Environment.load("dev").contexts[0]))
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize(
    ("verb", "silent"),
    [
        *((verb, False) for verb in ("smoke dev", "rotate api dev", "alerts test dev", "dags slow --env dev")),
        # The client asks a silent server again for a quarter of a minute, whatever the verb.
        *((verb, True) for verb in ("smoke dev", "rotate api dev")),
    ],
)
def test_what_the_cluster_refuses_ends_without_a_traceback(
    verb: str, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refusing, "silent", silent)
    answer = airflow_ops(*verb.split())
    assert answer.returncode in (1, 2, TRY_AGAIN), answer.stderr
    said = "cannot be reached|closed|EOF" if silent else "403|[Ff]orbidden"
    assert re.search(said, answer.stderr), answer.stderr
    assert "fix" in answer.stderr
