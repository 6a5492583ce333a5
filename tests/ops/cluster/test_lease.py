"""One operation at a time: against an API server that knows one Lease and refuses a write to an older version of it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from airflow_ops.cluster import lease
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import TRY_AGAIN, ProblemError
from airflow_ops.environments.environment import Environment
from support.lease_server import LeaseServer, serving


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


@pytest.fixture
def cluster(server: LeaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(lease, "DURATION_SECONDS", 1.5)
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.2)
    made = Cluster(Environment("dev"), "test")
    with serving(lambda method, _path, body: server.answer(method, body)) as api:
        monkeypatch.setattr(Cluster, "client", lambda _self, *, retries: api)
        yield made


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
