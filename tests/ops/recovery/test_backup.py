"""Jobs that a backup by hand and a restore make of the backup's CronJob."""

import json
from typing import Any

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.environments.environment import Environment
from airflow_ops.recovery import backup
from airflow_ops.recovery.backup import backup_job, container


def cron_job() -> dict[str, Any]:
    pod = {"initContainers": [{"name": "dump", "image": "p", "env": []}], "containers": [{"name": "store", "env": []}]}
    template = {
        "metadata": {"labels": {"l": "1"}},
        "spec": {"activeDeadlineSeconds": 9, "template": {"metadata": {}, "spec": pod}},
    }
    return {"metadata": {"uid": "u"}, "spec": {"jobTemplate": template}}


def test_a_backup_by_hand_counts_as_the_cron_jobs() -> None:
    job = backup_job(cron_job())
    assert (
        job["metadata"]["ownerReferences"][0] | {"uid": "u", "controller": True}
        == job["metadata"]["ownerReferences"][0]
    )
    assert [c["name"] for c in job["spec"]["template"]["spec"]["initContainers"]] == ["dump"]
    assert job["spec"]["activeDeadlineSeconds"] == 9


def test_only_the_containers_that_need_a_secret_get_it() -> None:
    template = cron_job()["spec"]["jobTemplate"]
    plain = container(template, "dump", ["bash", "load.sh", "load"], {})
    assert (plain["name"], plain["image"], plain["env"]) == ("load", "p", [])
    other = container(template, "store", ["python", "x.py", "verify"], {"FERNET_KEY": ("airflow-fernet", "fernet-key")})
    assert other["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "airflow-fernet"


def test_a_restore_uses_the_airflow_of_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployed one may be another version, whose backups the values' one cannot restore."""
    found = cron_job()
    pod = found["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    pod["initContainers"][0]["image"] = "postgres"
    pod["containers"][0] |= {"image": "airflow:old", "env": [{"name": "AIRFLOW_VERSION", "value": "3.2.2"}]}
    monkeypatch.setattr(backup, "cron_job", lambda _cluster: found)
    cluster = Cluster(Environment.load("dev"), "test")
    made = backup.job_template(cluster)["spec"]["template"]["spec"]
    assert made["initContainers"][0]["image"] == "postgres"
    assert made["containers"][0]["image"] == cluster.environment.image
    assert made["containers"][0]["env"] == [
        {"name": "AIRFLOW_VERSION", "value": cluster.environment.values["global"]["airflowVersion"]}
    ]


def test_a_step_of_a_restore_has_the_key_of_backups_only_where_it_is_asked_for() -> None:
    """The store's own container has it. A rehearsal makes containers like it that run DAGs."""
    found = cron_job()
    pod = found["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    reference = {"secretKeyRef": {"name": "airflow-backup", "key": "backup-key"}}
    pod["containers"][0]["env"] = [{"name": "BACKUP_KEY", "valueFrom": reference}, {"name": "WORK", "value": "w"}]
    template = found["spec"]["jobTemplate"]
    without = container(template, "store", ["python", "x.py", "try"], {})
    assert [variable["name"] for variable in without["env"]] == ["WORK"]
    key = backup.key(Cluster(Environment.load("dev"), "test"))
    given = container(template, "store", ["python", "x.py", "fetch"], key)["env"]
    assert [variable["name"] for variable in given] == ["WORK", "BACKUP_KEY"]
    assert given[1]["valueFrom"]["secretKeyRef"] == reference["secretKeyRef"] | {"optional": True}
    assert "BACKUP_KEY" in str(backup_job(found)), "a backup itself is made with it"


def test_whoever_lists_backups_sees_which_are_authenticated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = {"started": "2026-11-20T00:00:00+00:00", "bytes": 1}
    reason = "it is a copy: the backup was made as a"
    found = [
        {"name": "a", **common, "unauthenticated": ""},
        {"name": "b", **common, "unauthenticated": reason},
        {"name": "c", **common},
    ]
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(backup, "connect", lambda _environment: Cluster(Environment.load("dev"), "test"))
    monkeypatch.setattr(backup, "inspect", lambda _cluster: {"backups": found})
    backup.backup("dev", list_only=True)
    rows = [line for line in capsys.readouterr().out.splitlines() if "2026-11-20" in line]
    assert len(rows) == 3
    assert "yes" in rows[0]
    assert f"no: {reason}" in rows[1]
    assert "no: the deployed CronJob airflow-backup is of an older release" in rows[2]


@pytest.mark.parametrize(
    ("skipped", "said"),
    [
        ({"a.json": "is not whole JSON"}, "skipped: a.json is not whole JSON\n"),
        ({"\x1b[2J\nb\udcff.json": "is\x9b odd"}, "skipped: \\x1b[2J\\nb\\udcff.json is\\x9b odd\n"),
        ({}, ""),
    ],
    ids=["skipped", "with signs that are not shown", "none"],
)
def test_what_is_skipped_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], skipped: dict[str, str], said: str
) -> None:
    """By every command that reads the list: the newest backup may be the one whose description is cut off."""
    monkeypatch.setattr(backup, "job_template", lambda _cluster: cron_job()["spec"]["jobTemplate"])
    monkeypatch.setattr("airflow_ops.cluster.jobs.job", lambda *_: {})
    monkeypatch.setattr("airflow_ops.cluster.jobs.run_for_result", lambda *_: {"backups": [], "skipped": skipped})
    assert backup.inspect(Cluster(Environment.load("dev"), "test"))["backups"] == []
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("as_json", [False, True], ids=["table", "JSON"])
def test_a_list_shows_no_sign_as_it_is_that_does_something_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """The script of an older deploy lists such names."""
    name = "\x1b[2Ja\nb\x9b\u202e\udcff"
    found = {"name": name, "started": "\x1b[2J", "bytes": 1, "unauthenticated": "made as \x1b[2J"}
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(backup, "connect", lambda _environment: Cluster(Environment.load("dev"), "test"))
    monkeypatch.setattr(backup, "inspect", lambda _cluster: {"backups": [found]})
    backup.backup("dev", list_only=True, as_json=as_json)
    said = capsys.readouterr().out
    assert all(sign.isprintable() or sign == "\n" for sign in said)
    if as_json:
        assert json.loads(said)[0]["name"] == name
    else:
        assert "\\x1b[2Ja\\nb\\x9b\\u202e\\udcff" in said
