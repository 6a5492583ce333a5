"""API servers that refuse the tokens of the colour that works get no users and no tasks."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import jwt
import pytest
from kubernetes import client

from airflow_ops.cluster import airflow_api
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.console import ProblemError, fail
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import token_check
from airflow_ops.upgrades.token_check import EXECUTION, REST

CLUSTER = Cluster(Environment("dev"), "test")
TOKENS = {REST: "of a user", EXECUTION: "of a task"}


def status_of(path: str, authorization: str | None) -> int:
    """What an API server with the same keys answers."""
    return 200 if authorization == f"Bearer {TOKENS[path]}" else 403


def handler(answer: Callable[[str, str | None], int], asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(answer(self.path, self.headers["Authorization"]))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Let the API servers of green answer as a function says; gives the requests that they got."""
    servers: list[ThreadingHTTPServer] = []

    def start(
        answer: Callable[[str, str | None], int] = status_of, green: tuple[str, ...] = ("green-1", "green-2")
    ) -> list[str]:
        asked: list[str] = []
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler(answer, asked)))
        threading.Thread(target=servers[-1].serve_forever).start()

        @contextmanager
        def forward(_cluster: Cluster, target: str, _port: int) -> Iterator[str]:
            assert target.removeprefix("pod/") in green
            yield f"http://127.0.0.1:{servers[-1].server_port}"

        def pods(_cluster: Cluster, colour: Colour, component: str) -> list[client.V1Pod]:
            assert component == "api-server"
            names = green if colour is Colour.GREEN else ("blue-1",)
            statuses = [SimpleNamespace(ready=True)]
            status = SimpleNamespace(phase="Running", container_statuses=statuses)
            return [SimpleNamespace(metadata=client.V1ObjectMeta(name=name), status=status) for name in names]

        monkeypatch.setattr(Cluster, "forward", forward)
        monkeypatch.setattr(live, "pods", pods)
        return asked

    @contextmanager
    def login(_cluster: Cluster) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(configuration=SimpleNamespace(access_token=TOKENS[REST]))

    def kubectl(_cluster: Cluster, *words: str, seconds: int) -> str:
        assert words[:2] == ("exec", "blue-1")
        return f"some warning\ntoken: {TOKENS[EXECUTION]}\n"

    monkeypatch.setattr(airflow_api, "login", login)
    monkeypatch.setattr(Cluster, "kubectl", kubectl)
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def check() -> None:
    token_check.check(CLUSTER, Colour.BLUE, Colour.GREEN)


def test_each_server_is_asked_for_users_and_tasks(serve: Callable[..., list[str]]) -> None:
    asked = serve()
    check()
    assert asked == [REST, REST, EXECUTION, EXECUTION]


@pytest.mark.parametrize(("path", "status"), [(REST, 401), (REST, 403), (EXECUTION, 403)])
def test_a_token_that_is_refused_is_told(serve: Callable[..., list[str]], path: str, status: int) -> None:
    serve(lambda asked, token: status if asked == path else status_of(asked, token))
    pattern = f"green-1 refuses a token that blue signed: status {status} of {path.split('?')[0]}"
    with pytest.raises(ProblemError, match=pattern):
        check()


def test_a_server_that_fails_or_does_not_answer_is_told(
    serve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(lambda *_: 500)
    with pytest.raises(ProblemError, match="green-1 answers status 500 to /api/v2/dags"):
        check()
    monkeypatch.setattr(httpx, "get", lambda *_, **__: (_ for _ in ()).throw(httpx.ConnectError("refused")))
    with pytest.raises(ProblemError, match="green-1 does not answer"):
        check()


def test_a_version_that_has_no_such_path_any_more_is_not_refused(serve: Callable[..., list[str]]) -> None:
    serve(lambda *_: 404)
    check()


def test_where_nothing_gives_a_token_the_other_kind_is_still_tried(
    serve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_cluster: Cluster) -> None:
        raise fail("no Admin of platform.users has a password.", "Name one.")

    asked = serve()
    monkeypatch.setattr(airflow_api, "login", refuse)
    check()
    assert asked == [EXECUTION, EXECUTION]
    assert "no Admin of platform.users has a password" in " ".join(capsys.readouterr().err.split())


def test_the_program_signs_a_token_as_airflow_does(tmp_path: Path) -> None:
    secret = "x" * 64
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__API_AUTH__JWT_SECRET": secret,
        "AIRFLOW__EXECUTION_API__JWT_AUDIENCE": "tasks",
    }
    done = subprocess.run(
        [sys.executable, "-c", token_check.SIGN], env=environment, capture_output=True, text=True, check=True
    )
    token = next(line for line in done.stdout.splitlines() if line.startswith("token: ")).removeprefix("token: ")
    claims = jwt.decode(token, secret, algorithms=["HS512"], audience="tasks")
    assert claims["exp"] - claims["iat"] == 300
