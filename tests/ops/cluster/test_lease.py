"""One operation at a time: against an API server that knows one Lease and refuses a write to an older version of it."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from airflow_ops.cluster import lease
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import TRY_AGAIN, ProblemError
from airflow_ops.environments.environment import Environment


@dataclass
class LeaseServer:
    """What the server holds, and how it answers.

    Attributes:
        stored: The Lease; None where there is none.
        is_away: Whether every request fails.
        loses_answers: Whether it does what it is asked to, and then fails.
    """

    stored: dict[str, Any] | None = None
    is_away: bool = False
    loses_answers: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, body: Any) -> tuple[int, Any]:
        with self.lock:
            if self.is_away:
                return 503, {"message": "away"}
            if method == "GET":
                return (200, self.stored) if self.stored else (404, {"message": "not found"})
            version = body["metadata"].get("resourceVersion")
            present = self.stored["metadata"]["resourceVersion"] if self.stored else None
            if version != present:
                return 409, {"message": "the object has been modified"}
            for key in ("acquireTime", "renewTime"):
                if key in body["spec"] and "." not in body["spec"][key]:
                    return 400, {"message": f"{key} has no fraction"}
            body["metadata"]["resourceVersion"] = str(int(present or 0) + 1)
            self.stored = body
            return (500, {"message": "lost"}) if self.loses_answers else (200, body)

    def held_by(self, who: str, verb: str = "restore") -> None:
        """Somebody else takes the Lease, or renews it."""
        with self.lock:
            version = int(self.stored["metadata"]["resourceVersion"]) if self.stored else 0
            now = "2026-11-27T10:00:00.000001Z"
            self.stored = {
                "metadata": {
                    "name": lease.NAME,
                    "resourceVersion": str(version + 1),
                    "annotations": {lease.VERB: verb},
                },
                "spec": {"holderIdentity": who, "leaseDurationSeconds": 30, "acquireTime": now, "renewTime": now},
            }

    @property
    def holder(self) -> str:
        return self.stored["spec"]["holderIdentity"] if self.stored else ""


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


@pytest.fixture
def cluster(server: LeaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = server.answer(self.command, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        do_GET = do_POST = do_PUT = _do  # noqa: N815 the names that http.server calls

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setattr(lease, "DURATION_SECONDS", 1.5)
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.2)
    made = Cluster(Environment("dev"), "test")
    settings = client.Configuration(host=f"http://127.0.0.1:{http.server_port}")
    settings.retries = False
    monkeypatch.setattr(Cluster, "client", lambda _self, *, retries: client.ApiClient(settings))
    yield made
    http.shutdown()


def work(cluster: Cluster, during: Callable[[], object]) -> None:
    """A deploy that does one thing and then goes on for longer than any test."""
    with lease.hold(cluster, "deploy"):
        during()
        time.sleep(20)
        raise AssertionError("nothing stopped it")


def test_it_is_held_with_the_verb_and_given_back(cluster: Cluster, server: LeaseServer) -> None:
    with lease.hold(cluster, "deploy"):
        assert f"/{os.getpid()}" in server.holder
        assert server.stored
        assert server.stored["metadata"]["annotations"][lease.VERB] == "deploy"
    assert server.holder == ""


def test_it_is_given_back_after_an_error_too(cluster: Cluster, server: LeaseServer) -> None:
    with pytest.raises(ZeroDivisionError), lease.hold(cluster, "deploy"):
        raise ZeroDivisionError
    assert server.holder == ""


def test_it_is_renewed(cluster: Cluster, server: LeaseServer) -> None:
    with lease.hold(cluster, "deploy"):
        assert server.stored
        first = server.stored["metadata"]["resourceVersion"]
        end = time.monotonic() + 10
        while server.stored["metadata"]["resourceVersion"] == first:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_second_operation_is_told_who_holds_it(cluster: Cluster, server: LeaseServer) -> None:
    server.held_by("ann@laptop/7")
    renewing = threading.Timer(0.5, server.held_by, ["ann@laptop/7"])
    renewing.start()
    with pytest.raises(ProblemError, match="restore by ann@laptop/7 since 2026-11-27") as caught:
        work(cluster, lambda: None)
    assert caught.value.exit_code == TRY_AGAIN
    assert server.holder == "ann@laptop/7"


def test_a_holder_that_was_killed_is_followed(
    cluster: Cluster, server: LeaseServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.held_by("ann@laptop/7")
    with lease.hold(cluster, "deploy"):
        assert server.holder.endswith(f"/{os.getpid()}")
    assert "was not alive any more" in capsys.readouterr().err


def test_of_two_that_find_it_free_one_gets_it(
    cluster: Cluster, server: LeaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.held_by("")
    first, second = lease.Holding(cluster, "deploy"), lease.Holding(cluster, "restore")
    found = second.read()
    first.take()
    monkeypatch.setattr(second, "read", lambda: found)
    with pytest.raises(ProblemError, match="one operation runs at a time"):
        second.take()
    assert server.stored
    assert server.stored["metadata"]["annotations"][lease.VERB] == "deploy"


def test_who_loses_it_is_stopped_and_says_why(cluster: Cluster, server: LeaseServer) -> None:
    with pytest.raises(ProblemError, match="deploy was stopped: another operation took its Lease"):
        work(cluster, lambda: server.held_by("ann@laptop/7"))
    assert server.holder == "ann@laptop/7", "it is not given back: it is somebody else's"


def test_who_loses_it_in_the_background_is_stopped_too(cluster: Cluster, server: LeaseServer) -> None:
    """A script's shell lets its background commands ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(ProblemError, match="deploy was stopped"):
            work(cluster, lambda: server.held_by("ann@laptop/7"))
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_cannot_renew_it_is_stopped_before_others_may_take_it(cluster: Cluster, server: LeaseServer) -> None:
    began = time.monotonic()
    with pytest.raises(ProblemError, match="the Kubernetes API did not answer"):
        work(cluster, lambda: setattr(server, "is_away", True))
    assert time.monotonic() - began < lease.DURATION_SECONDS + 1


@pytest.mark.parametrize("trouble", ["is_away", "loses_answers"])
def test_a_short_trouble_of_the_api_is_survived(trouble: str, cluster: Cluster, server: LeaseServer) -> None:
    """It is away; or it does what it is asked to, and its answer is lost."""
    with lease.hold(cluster, "deploy"):
        setattr(server, trouble, True)
        time.sleep(0.5)
        setattr(server, trouble, False)
        time.sleep(1.5)
    assert server.holder == ""


def test_sigterm_gives_it_back(cluster: Cluster, server: LeaseServer) -> None:
    with pytest.raises(SystemExit) as caught:
        work(cluster, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert caught.value.code == 143
    assert server.holder == ""
