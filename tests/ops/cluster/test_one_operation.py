"""Every command that changes an environment takes its Lease first, and is refused while another one holds it.

The commands are found by walking the app. A new one that takes an environment has to take the Lease too, or to be named
in `READS` with the reason why it may do without.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from subprocess import CompletedProcess
from typing import Any

import pytest

from airflow_ops import programs
from airflow_ops.cluster import lease
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.console import TRY_AGAIN
from airflow_ops.deployment import dag_deploy
from airflow_ops.deployment import preflight as deployment_preflight
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import preflight
from support.command_line import airflow_ops
from support.hostile import call, commands, example, found_command
from support.lease_server import LeaseServer, serving

READS = {
    "status": "it reads",
    "render": "it needs no cluster",
    "validate": "it needs no cluster",
    "capacity": "it needs no cluster",
    "diff": "it reads",
    "follow": "it writes a file of the checkout",
    "compatibility": "it reads, and writes files of the checkout",
    "smoke": "a run of the canary changes nothing; what holds the Lease starts one too",
    "backup": "it makes the Job that its CronJob makes at any time, also while the Lease is held",
    "alerts routing": "it needs no cluster",
    "alerts test": "it reads",
    "dags inspect": "it reads",
    "dags slow": "it reads",
    "pin-images": "it needs no cluster, and writes an overlay of the checkout",
    "dags upload": "it adds a folder to object storage, which no environment reads before it names it",
}
"""Commands that take an environment and no Lease, each with the reason."""


def takes_an_environment(words: tuple[str, ...]) -> bool:
    return any("ENV" in (each.metavar or "").strip("[]").split("|") for each in found_command(words).params)


CHANGES = [words for words in commands() if takes_an_environment(words) and " ".join(words) not in READS]


@dataclass
class Fake:
    """A cluster that has the Lease and nothing else, and refuses every other change.

    Attributes:
        lease: Its Lease.
        changes: What it was asked to change, in order; the Lease among it, with the command that takes it.
        is_renewed: Whether somebody alive holds the Lease.
    """

    lease: LeaseServer = field(default_factory=LeaseServer)
    changes: list[str] = field(default_factory=list)
    is_renewed: bool = False

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """The answer of its API."""
        if "/leases" in path:
            if method == "GET" and self.is_renewed:
                self.lease.held_by("ann@laptop/7")
            elif method != "GET":
                self.changes.append(f"the Lease for {body['metadata']['annotations'].get(lease.VERB, 'nobody')}")
            return self.lease.answer(method, body)
        if method != "GET":
            self.changes.append(f"{method} {path}")
        return 404, {"message": "not found"}

    def run(self, name: str, arguments: Any, **_options: Any) -> CompletedProcess[str]:
        """What git, helm or kubectl answers."""
        words = [str(word) for word in arguments]
        if words == ["config", "current-context"]:
            return CompletedProcess(words, 0, Environment.load("dev").contexts[0], "")
        if "/version" in words:
            return CompletedProcess(words, 0, "{}", "")
        if not {"get", "list", "status", "ls-remote", "rev-parse"} & set(words):
            self.changes.append(f"{name} {' '.join(words)}")
        return CompletedProcess(words, 1, "", "there is nothing")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake()
    monkeypatch.setattr(programs, "run", fake.run)
    # They look at files of this checkout for a minute, and change nothing but that they make the namespace.
    monkeypatch.setattr(deployment_preflight, "check_files", lambda _cluster: [])
    monkeypatch.setattr(dag_deploy, "_checked", lambda _environment, _ref: ("0" * 40, []))
    monkeypatch.setattr(preflight, "active", lambda _cluster: Colour.BLUE)
    monkeypatch.setattr(live, "live_colour", lambda _cluster: Colour.BLUE)
    with serving(fake.answer) as api:
        monkeypatch.setattr(Cluster, "client", lambda _self, *, retries: api)
        yield fake


def command_line(words: tuple[str, ...]) -> list[str]:
    """The example in the help of a command, for dev."""
    return call(words, {**example(words), "name": "dev"})


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_it_is_refused_while_another_operation_holds_the_lease(words: tuple[str, ...], cluster: Fake) -> None:
    cluster.is_renewed = True
    ended = airflow_ops(*command_line(words))
    assert ended.returncode == TRY_AGAIN, ended.stderr
    assert "restore by ann@laptop/7 since" in ended.stderr
    assert cluster.changes == []


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_it_takes_the_lease_before_it_changes_anything(words: tuple[str, ...], cluster: Fake) -> None:
    airflow_ops(*command_line(words))
    assert cluster.changes[0].startswith(f"the Lease for {words[0]}")
    assert cluster.changes[-1] == "the Lease for nobody", "it is given back"


def test_the_commands_without_a_lease_exist() -> None:
    assert {" ".join(words) for words in commands() if takes_an_environment(words)} >= READS.keys()


def test_operations_are_found() -> None:
    found = {words[0] for words in CHANGES}
    assert found >= {"deploy", "deploy-dags", "upgrade", "rollback", "promote", "reconcile", "restore", "rotate"}
