"""What a deploy may bring beside what runs, by the versions and by the schema of the metadata database."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.deployment import live_checks
from airflow_ops.deployment.preflight import Schema
from airflow_ops.environments.environment import Environment
from airflow_ops.upgrades import preflight

CLUSTER = Cluster(Environment.load("dev"), "test")
WANTED = CLUSTER.environment.values["global"]["airflowVersion"]
SAME = Schema({"alembic_version": "b"}, {"alembic_version": "b"})
OLDER = Schema({"alembic_version": "b"}, {"alembic_version": "a"})
NEWER = Schema({"alembic_version": "b"}, {"alembic_version": "c"}, ["alembic_version"])
TRIED = replace(NEWER, comment=f"Airflow {WANTED} works on it")
EMPTY = Schema({"alembic_version": "b"}, {})


@pytest.mark.parametrize(
    ("installed", "schema", "may"),
    [
        (None, EMPTY, True),
        (None, OLDER, True),  # a first deploy that was cut off in its migration
        (WANTED, SAME, True),
        (WANTED, OLDER, False),  # another image under the same version
        (WANTED, TRIED, True),  # an upgrade was rolled back
        (None, TRIED, True),  # and its backup is restored elsewhere
        ("3.3.0", SAME, False),
        ("3.2.2", OLDER, False),
    ],
)
def test_a_deploy_brings_no_other_version(
    monkeypatch: pytest.MonkeyPatch, installed: str | None, schema: Schema, may: bool
) -> None:
    monkeypatch.setattr(live_checks, "installed_version", lambda *_: installed)
    assert live_checks.check_version(CLUSTER, schema) is may


@pytest.mark.parametrize(
    ("installed", "schema"),
    [
        ("9.9.9", NEWER),
        ("9.9.9", TRIED),  # 9.9.9 was promoted, so only a restore leads back to the older version
        (WANTED, NEWER),  # a maintenance window that was cut off after its migration
        (None, NEWER),  # a database of somebody else
        (WANTED, replace(NEWER, comment="Airflow 3.2.2 works on it")),
    ],
)
def test_a_deploy_does_not_bring_an_older_version(
    monkeypatch: pytest.MonkeyPatch, installed: str | None, schema: Schema
) -> None:
    monkeypatch.setattr(live_checks, "installed_version", lambda *_: installed)
    with pytest.raises(ProblemError, match="alembic_version is c, it needs b"):
        live_checks.check_version(CLUSTER, schema)


@pytest.mark.parametrize(
    ("installed", "schema", "why"), [("3.2.2", OLDER, f"the values say {WANTED}"), (WANTED, OLDER, "another schema")]
)
def test_what_is_refused_names_upgrade(
    monkeypatch: pytest.MonkeyPatch, installed: str, schema: Schema, why: str
) -> None:
    monkeypatch.setattr(live_checks, "installed_version", lambda *_: installed)
    error = live_checks.refuse_version(CLUSTER, schema)
    assert isinstance(error, ProblemError)
    assert why in error.message
    assert f"airflow-ops upgrade dev --to {WANTED}" in error.fix


@pytest.mark.parametrize(("installed", "schema"), [("3.3.0", SAME), (WANTED, TRIED)])
def test_an_upgrade_without_migration(installed: str, schema: Schema) -> None:
    assert preflight.check_schema(CLUSTER, schema, installed) is False


@pytest.mark.parametrize("may_create", [True, False])
def test_an_upgrade_with_migration_needs_a_copy(monkeypatch: pytest.MonkeyPatch, may_create: bool) -> None:
    monkeypatch.setattr("airflow_ops.recovery.backup.inspect", lambda _cluster: {"may_create": may_create})
    monkeypatch.setattr(preflight, "check_room", lambda _cluster: None)
    if may_create:
        assert preflight.check_schema(CLUSTER, OLDER, "3.2.2") is True
    else:
        with pytest.raises(ProblemError, match="may not create databases"):
            preflight.check_schema(CLUSTER, OLDER, "3.2.2")


def test_an_upgrade_to_an_older_version_is_refused() -> None:
    with pytest.raises(ProblemError, match="newer schema than Airflow"):
        preflight.check_schema(CLUSTER, NEWER, "9.9.9")


@pytest.mark.parametrize(("free", "fits"), [(19_000_000, False), (21_000_000, True)])
def test_an_upgrade_with_migration_needs_room_for_a_copy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free: int, fits: bool
) -> None:
    monkeypatch.setattr("airflow_ops.upgrades.migration.execute", lambda *_: [[[10_000_000]]])
    monkeypatch.setattr(Cluster, "kubectl", lambda *_: f"Avail\n{free}\n")
    if fits:
        preflight.check_room(CLUSTER)
        assert "needs 20.0 MB" in capsys.readouterr().out
    else:
        with pytest.raises(ProblemError, match=r"needs 20.0 MB, and airflow-database-0 has 19.0 MB free"):
            preflight.check_room(CLUSTER)


@pytest.mark.parametrize(
    ("annotations", "by_helm", "is_refused"),
    [
        (None, False, False),  # nothing is deployed
        ({}, True, False),
        ({live_checks.TRACKED: "airflow-dev"}, False, True),
        ({live_checks.TRACKED: "airflow-dev"}, True, False),  # deployed first, then taken over by Argo CD
    ],
)
def test_a_deploy_leaves_what_argo_cd_has_made(
    monkeypatch: pytest.MonkeyPatch, annotations: dict[str, str] | None, by_helm: bool, is_refused: bool
) -> None:
    service = None if annotations is None else SimpleNamespace(metadata=SimpleNamespace(annotations=annotations))
    monkeypatch.setattr(live_checks, "existing", lambda *_: service)
    monkeypatch.setattr(live_checks, "was_installed", lambda *_: by_helm)
    cluster = SimpleNamespace(
        environment=CLUSTER.environment, namespace="n", core=SimpleNamespace(read_namespaced_service=None)
    )
    if not is_refused:
        live_checks.check_owner(cluster)
        return
    with pytest.raises(ProblemError, match="Argo CD brings dev"):
        live_checks.check_owner(cluster)
