"""What `restore` refuses before it changes anything, and where it goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.recovery import restore

HEADS = {"alembic_version": "abc", "alembic_version_fab": "def"}
SUM = "5" * 64


def backup(name: str = "b", **changes: Any) -> dict[str, Any]:
    common = {"airflow": "3.3.2", "revision": HEADS, "fits": True, "sha256": SUM, "unauthenticated": ""}
    return {"name": name, **common, **changes}


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


DOUBT = "no key of the Secret global.secrets.backup fits its description"


def planted(name: str) -> dict[str, Any]:
    return backup(name, unauthenticated=DOUBT)


def test_the_newest_that_is_authenticated_is_chosen_and_what_is_passed_over_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert restore.choose([backup("a"), backup("b"), planted("c")], None, "dev")["name"] == "b"
    assert capsys.readouterr().err == f"passed over: c is not authenticated: {DOUBT}\n"


@pytest.mark.parametrize(("there", "name"), [([planted("c")], None), ([backup("a"), planted("c")], "c")], ids=str)
def test_a_backup_that_is_not_authenticated_is_refused_and_the_way_to_take_it_is_named(
    there: list[dict[str, Any]], name: str | None
) -> None:
    with pytest.raises(ProblemError, match="authenticated") as refused:
        restore.choose(there, name, "dev")
    assert f"airflow-ops restore dev {name or 'BACKUP'} --accept-unauthenticated" in refused.value.fix


def test_a_backup_of_an_older_release_counts_as_not_authenticated() -> None:
    """The script that is deployed knows no key, so nothing has been checked."""
    older = backup("a")
    del older["unauthenticated"]
    with pytest.raises(ProblemError, match="is of an older release"):
        restore.choose([older], "a", "dev")
    assert restore.choose([older], "a", "dev", accept_unauthenticated=True) == older


def test_one_that_is_accepted_on_purpose_is_taken_and_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert restore.choose([backup("a"), planted("c")], "c", "dev", accept_unauthenticated=True)["name"] == "c"
    said = f"accepted although it is not authenticated: c ({DOUBT}); the SHA-256 of its dump is {SUM}\n"
    assert capsys.readouterr().err == said


def test_a_name_of_an_older_deploys_list_does_not_clear_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    restore.choose([backup("a"), planted("\x1b[2Jc\nok \udcff")], None, "dev")
    assert capsys.readouterr().err == f"passed over: \\x1b[2Jc\\nok \\udcff is not authenticated: {DOUBT}\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """As what a restore holds the Lease, and the Jobs that it runs, in a cluster with one backup that is planted."""
    seen: dict[str, Any] = {"verbs": [], "jobs": []}
    pod = {"initContainers": [{"name": "dump", "env": []}], "containers": [{"name": "store", "env": []}]}
    template = {
        "metadata": {"labels": {}},
        "spec": {"activeDeadlineSeconds": 9, "template": {"metadata": {}, "spec": pod}},
    }

    @contextmanager
    def hold(_cluster: Cluster, verb: str) -> Iterator[None]:
        seen["verbs"].append(verb)
        yield

    def run_job(_cluster: Cluster, job: dict[str, Any], _saying: str) -> dict[str, Any]:
        seen["jobs"].append(job)
        return {"runs": 1, "decrypted": 1, "former": None}

    monkeypatch.setattr(restore, "connect", lambda _environment: Cluster(Environment.load("dev"), "test"))
    monkeypatch.setattr("airflow_ops.cluster.lease.hold", hold)
    for name in ("live_checks.check_owner", "live_checks.check_colour", "smoke.check"):
        monkeypatch.setattr(f"airflow_ops.deployment.{name}", lambda *_: None)
    monkeypatch.setattr("airflow_ops.recovery.backup.inspect", lambda _cluster: found(backups=[planted("c")]))
    monkeypatch.setattr("airflow_ops.recovery.backup.job_template", lambda _cluster: template)
    monkeypatch.setattr("airflow_ops.cluster.components.stop", lambda *_: None)
    monkeypatch.setattr(restore, "start", lambda _cluster: None)
    monkeypatch.setattr("airflow_ops.cluster.jobs.run_for_result", run_job)
    return seen


def environments(seen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Environment of each container that a restore has run."""
    pods = [job["spec"]["template"]["spec"] for job in seen["jobs"]]
    steps = [step for pod in pods for step in [*pod["initContainers"], *pod["containers"]]]
    return {step["name"]: {variable["name"]: variable.get("value") for variable in step["env"]} for step in steps}


def test_without_the_flag_nothing_of_it_is_loaded(run: dict[str, Any]) -> None:
    with pytest.raises(ProblemError, match="c is not authenticated"):
        restore.restore("dev", "c")
    assert run == {"verbs": ["restore"], "jobs": []}


def test_others_see_that_an_unauthenticated_backup_is_restored_and_each_step_is_told(run: dict[str, Any]) -> None:
    restore.restore("dev", "c", accept_unauthenticated=True)
    assert run["verbs"] == ["restore c --accept-unauthenticated"]
    steps = environments(run)
    assert {name: step.get("ACCEPT_UNAUTHENTICATED") for name, step in steps.items()} == {
        "fetch": f"c:{SUM}", "load": None, "verify": f"c:{SUM}", "swap": f"c:{SUM}",
    }  # fmt: skip
    assert {name for name, step in steps.items() if "BACKUP_KEY" in step} == {"fetch", "verify", "swap"}


def test_the_script_of_an_older_deploy_restores_what_is_accepted(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It checks nothing, and finds the backup by the name among its arguments."""
    older = {key: value for key, value in backup("c").items() if key != "unauthenticated"}
    monkeypatch.setattr("airflow_ops.recovery.backup.inspect", lambda _cluster: found(backups=[older]))
    restore.restore("dev", "c", accept_unauthenticated=True)
    pods = [job["spec"]["template"]["spec"] for job in run["jobs"]]
    commands = [step["command"][2:] for pod in pods for step in [*pod["initContainers"], *pod["containers"]]]
    assert commands == [["fetch", "c"], ["load"], ["verify", "c"], ["swap", "c"]]


def test_no_step_accepts_what_nobody_has_accepted(run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_ops.recovery.backup.inspect", lambda _cluster: found(backups=[backup("c")]))
    restore.restore("dev")
    assert run["verbs"] == ["restore"]
    assert not any("ACCEPT_UNAUTHENTICATED" in step for step in environments(run).values())


def test_only_a_backup_that_is_named_is_accepted_without_authentication(run: dict[str, Any]) -> None:
    """The newest may be the one that somebody has just planted."""
    with pytest.raises(ProblemError, match="--accept-unauthenticated needs the name of the backup"):
        restore.restore("dev", accept_unauthenticated=True)
    assert run == {"verbs": [], "jobs": []}


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
