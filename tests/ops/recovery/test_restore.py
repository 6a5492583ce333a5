"""What `restore` refuses before it changes anything, and where it goes on."""

from typing import Any

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.recovery import restore

HEADS = {"alembic_version": "abc", "alembic_version_fab": "def"}


def backup(name: str = "b", **changes: Any) -> dict[str, Any]:
    return {"name": name, "airflow": "3.3.2", "revision": HEADS, "fits": True, **changes}


def found(**changes: Any) -> dict[str, Any]:
    return {"backups": [backup()], "heads": HEADS, "may_create": True, "database": None, **changes}


def test_the_newest_is_chosen_unless_one_is_named() -> None:
    three = [backup("a"), backup("b"), backup("c")]
    assert restore.choose(three, None, "dev")["name"] == "c"
    assert restore.choose(three, "b", "dev")["name"] == "b"


@pytest.mark.parametrize(("there", "name"), [([], None), ([backup()], "other")])
def test_a_backup_that_is_not_there_is_reported(there: list[dict[str, Any]], name: str | None) -> None:
    with pytest.raises(ProblemError, match=f"there is no backup {name or ''}"):
        restore.choose(there, name, "dev")


def test_a_dropped_database_is_restored_without_a_question() -> None:
    restore.check(found(), backup(), False)


def test_newer_runs_are_not_lost_unless_that_is_meant() -> None:
    newer = found(database={"comment": "", "newer_runs": {"b": 3}})
    with pytest.raises(ProblemError, match="3 DAG runs") as refused:
        restore.check(newer, backup(), False)
    assert "--discard-newer-runs" in refused.value.fix
    restore.check(newer, backup(), True)


def test_the_schema_of_another_version_is_refused_with_that_version() -> None:
    older = backup(airflow="3.2.2", revision=HEADS | {"alembic_version": "old"}, fits=False)
    with pytest.raises(ProblemError, match=r"alembic_version is old, this image needs abc") as refused:
        restore.check(found(), older, True)
    assert "Write Airflow 3.2.2 and its image into values/" in refused.value.fix


def test_a_backup_with_a_newer_schema_that_fits_is_restored() -> None:
    """After the rollback of an upgrade, whose migration stays."""
    restore.check(found(), backup(airflow="3.2.2", revision=HEADS | {"alembic_version": "new"}), True)


@pytest.mark.parametrize(("installed", "installs"), [("3.2.2", True), ("3.3.2", False), (None, False)])
def test_a_backup_of_another_version_brings_that_version(
    monkeypatch: pytest.MonkeyPatch, installed: str | None, installs: bool
) -> None:
    done: list[str] = []
    monkeypatch.setattr("airflow_ops.colours.live.live_colour", lambda _cluster: Colour.BLUE)
    monkeypatch.setattr("airflow_ops.colours.live.installed_version", lambda *_: installed)
    monkeypatch.setattr(restore, "install", lambda _cluster: done.append("install"))
    monkeypatch.setattr("airflow_ops.deployment.maintenance.end", lambda *_: done.append("end"))
    monkeypatch.setattr("airflow_ops.cluster.components.stopped_deployments", lambda _cluster: {})
    monkeypatch.setattr("airflow_ops.cluster.components.start", lambda *_: done.append("start"))
    restore.start(Cluster(Environment.load("dev"), "test"))
    assert done == (["install", "end"] if installs else ["start"])


def test_a_role_that_may_not_create_databases_is_reported() -> None:
    with pytest.raises(ProblemError, match="may not create databases") as refused:
        restore.check(found(may_create=False), backup(), True)
    assert "connection-admin" in refused.value.fix


@pytest.mark.parametrize(
    ("database", "swapped"),
    [
        (None, False),
        ({"comment": ""}, False),
        ({"comment": "restored from a"}, False),
        ({"comment": "restored from b"}, True),
    ],
    ids=str,
)
def test_a_restore_that_ended_after_the_swap_is_known(database: dict[str, Any] | None, swapped: bool) -> None:
    assert restore.is_swapped(found(database=database), backup("b")) is swapped
