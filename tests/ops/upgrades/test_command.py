"""When `upgrade` begins, continues, or has nothing to do; the cluster is a fake."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from airflow_ops.colours.record import Phase, Record, Side
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import command
from support.command_line import airflow_ops

SIDES = [Side(colour=colour, version="3.3.2", image="airflow:1", replicas={}) for colour in Colour]
UPGRADE = ("upgrade", "dev", "--to", "3.3.2")


def record(phase: Phase, digest: str) -> Record:
    return Record(id="1", phase=phase, source=SIDES[0], target=SIDES[1], digest=digest, reason="the canary failed")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The upgrades that have begun, with a checkout whose digest is `ours`."""
    begun: list[str] = []

    def new_record(*_: object) -> Record:
        begun.append("new")
        return record(Phase.UPGRADING, "ours")

    environment = SimpleNamespace(name="dev")
    monkeypatch.setattr(command, "connect", lambda _: SimpleNamespace(environment=environment))
    monkeypatch.setattr(command.lease, "hold", lambda *_: nullcontext(SimpleNamespace(lost="")))
    for name in ("check_asked", "check_schema", "check_source", "check_health", "wanted", "changes_nothing"):
        monkeypatch.setattr(command.preflight, name, lambda *_: None)
    monkeypatch.setattr(command.preflight, "active", lambda _: Colour.BLUE)
    monkeypatch.setattr(command.preflight, "digest", lambda *_: "ours")
    monkeypatch.setattr(command.preflight, "new_record", new_record)
    for name in ("check_files", "check_cluster"):
        monkeypatch.setattr(command.deployment_preflight, name, lambda *_: None)
    monkeypatch.setattr(command.live, "installed_version", lambda *_: "3.3.2")
    monkeypatch.setattr(command.prober, "start", lambda *_: None)
    monkeypatch.setattr(command.machine, "go_forward", lambda *_: None)
    return begun


def with_record(monkeypatch: pytest.MonkeyPatch, found: Record | None) -> None:
    store = SimpleNamespace(read=lambda: found, write=lambda _: None)
    monkeypatch.setattr(command, "RecordStore", lambda _: store)


def test_what_soaks_already_is_not_begun_again(begun: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with_record(monkeypatch, record(Phase.SOAKING, "ours"))
    done = airflow_ops(*UPGRADE)
    assert done.returncode == 0, done.stderr
    assert "works with green (3.3.2) already" in done.stdout
    assert not begun


def test_another_upgrade_that_soaks_is_in_the_way(begun: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with_record(monkeypatch, record(Phase.SOAKING, "theirs"))
    refused = airflow_ops(*UPGRADE)
    assert refused.returncode == 2
    assert "is soaking" in refused.stderr


def test_what_was_rolled_back_is_begun_again_by_hand(begun: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with_record(monkeypatch, record(Phase.ROLLED_BACK, "ours"))
    assert airflow_ops(*UPGRADE).returncode == 0
    assert begun == ["new"]


@pytest.mark.parametrize("before", [None, record(Phase.PROMOTED, "ours")], ids=["none", "promoted"])
def test_so_is_what_was_not(begun: list[str], monkeypatch: pytest.MonkeyPatch, before: Record | None) -> None:
    with_record(monkeypatch, before)
    assert airflow_ops(*UPGRADE).returncode == 0
    assert begun == ["new"]
