"""Backups of the metadata database: what the pods may do, and what the script keeps, deletes and refuses."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import boto3
import psycopg2
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from moto.server import ThreadedMotoServer

from airflow_ops.paths import ROOT
from support.chart_rendering import Render, Rendered
from support.metadata_database import Server, insert, make_tables, running_server

pytestmark = pytest.mark.xdist_group("backup")  # what the module makes is made once
NOW = datetime(2026, 11, 21, 1, 15, tzinfo=UTC)
BUCKET = "example-backups"


def cron_job(environment: Rendered) -> dict[str, Any]:
    return environment.one("CronJob", "airflow-backup")["spec"]


def test_every_environment_is_backed_up_by_a_pod_that_can_do_nothing_else(environment: Rendered) -> None:
    spec = cron_job(environment)
    assert spec["concurrencyPolicy"] == "Forbid"
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "airflow-backup"
    assert pod["automountServiceAccountToken"] is False
    containers = [*pod["initContainers"], *pod["containers"]]
    assert [c["name"] for c in containers] == ["connection", "dump", "store"]
    found = {c["name"]: [e["valueFrom"]["secretKeyRef"] for e in c["env"] if "valueFrom" in e] for c in containers}
    reader = {"name": "airflow-metadata-reader", "key": "connection-direct"}
    # No Fernet key, and a role that may only read its database.
    assert found == {
        "connection": [reader],
        "dump": [reader],
        "store": [reader, {"name": "airflow-backup", "key": "backup-key"}],
    }


def test_a_backup_says_where_it_was_made(environment: Rendered) -> None:
    pod = cron_job(environment)["jobTemplate"]["spec"]["template"]["spec"]
    settings = json.loads(next(e["value"] for e in pod["containers"][0]["env"] if e["name"] == "BACKUP"))
    name = environment.environment
    assert (settings["environment"], settings["namespace"]) == (name, f"airflow-{name}")


def test_only_a_backup_is_given_the_key_that_authenticates_backups(environment: Rendered) -> None:
    """Who has it may make a backup that is taken for ours."""
    readers = {
        (pod.manifest.name, container["name"])
        for pod in environment.pods()
        for container in [*(pod.spec.get("initContainers") or []), *pod.spec["containers"]]
        if "backup-key" in json.dumps(container)
    }
    assert readers == {("airflow-backup", "store")}


def test_no_worker_reaches_the_backups(environment: Rendered) -> None:
    settings = next(
        json.loads(e["value"])
        for e in cron_job(environment)["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]
        if e["name"] == "BACKUP"
    )
    claims = {v["persistentVolumeClaim"]["claimName"] for w in environment.workers().values()
              for v in w["spec"]["volumes"] if "persistentVolumeClaim" in v}  # fmt: skip
    assert "airflow-backup" not in claims
    variables = json.loads(environment.starting("ConfigMap", "airflow-migrate-")["data"]["variables.json"])
    assert not settings["uri"].startswith(variables["object_storage_uri"].removesuffix("/platform") + "/")


def test_a_failed_backup_is_no_job_of_the_release(environment: Rendered) -> None:
    """A deploy gives up when a Job with the release's label has failed."""
    labels = cron_job(environment)["jobTemplate"]["metadata"]["labels"]
    assert "app.kubernetes.io/instance" not in labels


@pytest.mark.parametrize(
    ("change", "named"),
    [({"uri": ""}, "platform.backup.uri"), ({"keepAtLeast": 0}, "keepAtLeast"), ({"schedule": "daily"}, "schedule")],
    ids=str,
)
def test_what_would_make_no_backup_is_refused(render: Render, change: dict[str, Any], named: str) -> None:
    answer = render("airflow-platform", {"platform": {"backup": change}})
    assert answer.code != 0
    assert named in answer.error


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """What the pods run."""
    spec = importlib.util.spec_from_file_location("backup_script", ROOT / "charts/platform/files/scripts/backup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["backup_script"] = module  # dataclasses look themselves up
    sys.path.insert(0, str(ROOT / "charts/platform/files/scripts"))  # as for a script in its own folder
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "charts/platform/files/scripts"))
    del sys.modules["backup_script"]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Moto's server speaks S3 over HTTP: the same client code as against Amazon."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


FIRST_KEY, NEXT_KEY = "1" * 64, "2" * 64


def seal(script: ModuleType, *keys: str, environment: str = "dev") -> Any:
    """What authenticates the backups of an environment."""
    return script.Seal(environment, f"airflow-{environment}", keys or (FIRST_KEY,))


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "file":
        return script.Store(f"file://{tmp_path}/backups", {}, seal(script))
    endpoint = request.getfixturevalue("s3")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=f"{BUCKET}-{tmp_path.name.replace('_', '-').strip('-')}".lower()[:60].strip("-"))
    name = client.list_buckets()["Buckets"][-1]["Name"]
    options = {"endpoint_url": endpoint, "skip_instance_cache": True}
    return script.Store(f"s3://{name}/metadata", options, seal(script))


def put(script: ModuleType, store: Any, folder: Path, age: int, **revision: str) -> str:
    """Store a backup that is some days old."""
    dump = folder / "dump"
    dump.write_bytes(b"x" * (age + 1))
    started = NOW - timedelta(days=age)
    name = f"{started:%Y%m%dT%H%M%SZ}-airflow-3.3.2-abc"
    store.put(dump, script.Backup(name, started.isoformat(), "3.3.2", revision, age + 1, script.sha256(dump)))
    return name


def names(store: Any) -> list[str]:
    return [backup.name for backup in store.backups()]


def doubts(store: Any) -> dict[str, str]:
    """The backups that are not authenticated, and why."""
    return {backup.name: backup.unauthenticated for backup in store.backups() if backup.unauthenticated}


def described(store: Any, name: str) -> dict[str, Any]:
    """The description of a backup, as it lies in the store."""
    found: dict[str, Any] = json.loads(store.files.cat_file(store.path(f"{name}.json")))
    return found


def write(store: Any, name: str, description: dict[str, Any]) -> None:
    """What whoever may write to the store can do."""
    store.files.pipe_file(store.path(f"{name}.json"), json.dumps(description).encode())
    store.files.invalidate_cache()


def test_a_backup_that_was_made_here_is_authenticated(script: ModuleType, store: Any, tmp_path: Path) -> None:
    name = put(script, store, tmp_path, 1)
    assert names(store) == [name]
    assert doubts(store) == {}
    text = json.dumps(described(store, name))
    assert described(store, name)["environment"] == "dev"
    assert FIRST_KEY not in text


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "a" * 64},
        {"started": "2026-11-20T23:00:00+00:00"},
        {"airflow": "3.2.2"},
        {"revision": {"alembic_version": "other"}},
        {"environment": "prod"},
        {"namespace": "airflow-prod"},
        {"name": "other"},
        {"more": 1},
        {"hmac": "0" * 64},
        {"hmac": "\ud800"},
        {"hmac": None},
        {"hmac": 7},
    ],
    ids=str,
)
def test_whoever_may_only_write_to_the_store_makes_no_backup_that_is_taken_for_ours(
    script: ModuleType, store: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    good, changed = put(script, store, tmp_path, 2), put(script, store, tmp_path, 1)
    write(store, changed, described(store, changed) | change)
    assert doubts(store).keys() == {changed}
    assert names(store) == [good, changed], "it is shown, and may be taken on purpose"


def test_a_description_in_another_order_is_the_same(script: ModuleType, store: Any, tmp_path: Path) -> None:
    name = put(script, store, tmp_path, 1, b="1", a="2")
    write(store, name, dict(reversed(described(store, name).items())))
    assert doubts(store) == {}


def test_an_old_backup_under_a_newer_name_is_not_authenticated(script: ModuleType, store: Any, tmp_path: Path) -> None:
    old = put(script, store, tmp_path, 9)
    newer = "20261121T000000Z-airflow-3.3.2-abc"
    for suffix in ("dump", "json"):
        store.files.pipe_file(store.path(f"{newer}.{suffix}"), store.files.cat_file(store.path(f"{old}.{suffix}")))
    store.files.invalidate_cache()
    assert doubts(store) == {newer: f"it is a copy: the backup was made as {old}"}


def test_another_environments_backup_is_not_authenticated_though_the_key_is_the_same(
    script: ModuleType, tmp_path: Path
) -> None:
    uri = f"file://{tmp_path}/backups"
    name = put(script, script.Store(uri, {}, seal(script, environment="staging")), tmp_path, 1)
    assert doubts(script.Store(uri, {}, seal(script))) == {
        name: "it was made by environment staging in namespace airflow-staging, not by dev in airflow-dev"
    }


def test_the_first_key_makes_and_every_key_checks(script: ModuleType, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/backups"

    def keyed(*keys: str) -> Any:
        return script.Store(uri, {}, seal(script, *keys))

    old = put(script, keyed(FIRST_KEY), tmp_path, 2)
    both = keyed(NEXT_KEY, FIRST_KEY)
    new = put(script, both, tmp_path, 1)
    assert doubts(both) == {}
    assert doubts(keyed(NEXT_KEY)).keys() == {old}
    assert doubts(keyed(FIRST_KEY)).keys() == {new}


@pytest.mark.parametrize("keys", [FIRST_KEY, f"{FIRST_KEY}\n", f" {FIRST_KEY}, {NEXT_KEY}\n", f"{FIRST_KEY},"])
def test_keys_are_read_as_they_come_out_of_a_file(
    script: ModuleType, folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    monkeypatch.setenv("BACKUP_KEY", keys)
    put(script, script.open_store()[0], tmp_path, 1)
    assert doubts(folder) == {}


@pytest.mark.parametrize("keys", ["guess-me", f"{FIRST_KEY},abc", "1" * 31])
def test_a_key_that_can_be_guessed_is_refused(
    script: ModuleType, folder: Any, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    monkeypatch.setenv("BACKUP_KEY", keys)
    with pytest.raises(script.ProblemError, match=r"backup-key .* `openssl rand -hex 32`") as refused:
        script.open_store()
    assert not any(key in str(refused.value) for key in keys.split(","))


@pytest.mark.parametrize("between", ["\n", "\r\n", " ", "\t"], ids=ascii)
def test_two_keys_without_a_comma_are_not_taken_for_one(
    script: ModuleType, folder: Any, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """No backup of either key would be authenticated any more."""
    monkeypatch.setenv("BACKUP_KEY", f"{NEXT_KEY}{between}{FIRST_KEY}\n")
    with pytest.raises(script.ProblemError, match=r"backup-key .* a comma between .* new,old") as refused:
        script.open_store()
    assert not any(key in str(refused.value) for key in (FIRST_KEY, NEXT_KEY))


@pytest.mark.parametrize("keys", [None, "", "\n"])
def test_without_a_key_nothing_is_stored_and_nothing_is_authenticated(
    script: ModuleType, folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str | None
) -> None:
    """But what there is can be listed: the key may be lost with the cluster."""
    name = put(script, folder, tmp_path, 1)
    if keys is None:
        monkeypatch.delenv("BACKUP_KEY")
    else:
        monkeypatch.setenv("BACKUP_KEY", keys)
    store, _ = script.open_store()
    assert doubts(store).keys() == {name}
    with pytest.raises(script.ProblemError, match=r"global\.secrets\.backup"):
        put(script, store, tmp_path, 0)
    assert names(store) == [name]


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the script as its containers do."""
    words = [sys.executable, str(ROOT / "charts/platform/files/scripts/backup.py"), *command]
    return subprocess.run(words, env=os.environ | env, capture_output=True, text=True, timeout=60, check=False)


def test_a_container_stores_a_backup_that_only_its_own_key_authenticates(folder: Any, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(b"dump")
    (tmp_path / "facts").write_text("started=2026-11-20T00:00:00+00:00\nalembic_version=abc\n")
    env = {"WORK": str(tmp_path), "CONNECTION": "postgresql+psycopg2://airflow:p@database.invalid/airflow"}
    stored = run("store", **env)
    name = json.loads(stored.stdout.removeprefix("result: "))["name"]
    assert doubts(folder) == {}
    (tmp_path / "dump").unlink()
    refused = run("fetch", name, **env, BACKUP_KEY=NEXT_KEY)
    assert refused.returncode == 1
    assert refused.stdout == (
        f"problem: {name} is not authenticated: no key of the Secret global.secrets.backup fits its description\n"
    )
    assert not (tmp_path / "dump").exists()
    assert FIRST_KEY not in stored.stdout + stored.stderr
    assert NEXT_KEY not in refused.stderr


UNSIGNED = ("name", "environment", "namespace", "hmac")


def put_unauthenticated(script: ModuleType, store: Any, folder: Path, age: int, **revision: str) -> str:
    """Store a backup as it was made before there was a key."""
    name = put(script, store, folder, age, **revision)
    write(store, name, {key: value for key, value in described(store, name).items() if key not in UNSIGNED})
    return name


def test_backups_from_before_the_key_go_with_time_but_never_for_want_of_authenticated_ones(
    script: ModuleType, store: Any, tmp_path: Path
) -> None:
    before = [put_unauthenticated(script, store, tmp_path, age) for age in (400, 300)]
    made = [put(script, store, tmp_path, 200)]
    assert store.prune(30, 2, NOW) == [], "there are not yet two that are authenticated"
    made += [put(script, store, tmp_path, 0)]
    assert store.prune(30, 2, NOW) == before
    assert names(store) == made


def test_planted_backups_push_no_authenticated_one_out(script: ModuleType, store: Any, tmp_path: Path) -> None:
    made = [put(script, store, tmp_path, age) for age in (300, 200)]
    planted = [put_unauthenticated(script, store, tmp_path, age) for age in (3, 2, 1)]
    assert store.prune(30, 1, NOW) == made[:1]
    assert names(store) == [made[1], *planted]


@pytest.mark.parametrize(
    ("claimed", "dropped"),
    [
        ({"environment": "prod", "namespace": "airflow-prod"}, ()),
        ({"environment": "prod"}, ("namespace", "hmac")),
        ({"namespace": "airflow-prod"}, ("environment", "hmac")),
        ({"environment": None}, ("hmac",)),
    ],
    ids=str,
)
@pytest.mark.parametrize("key", [FIRST_KEY, NEXT_KEY], ids=["our key", "another key"])
def test_backups_of_another_environment_in_the_same_folder_are_left_alone(
    script: ModuleType, store: Any, tmp_path: Path, claimed: dict[str, Any], dropped: tuple[str, ...], key: str
) -> None:
    """The URI may be wrong, and how many of them have to stay is a setting of their own environment."""
    other = put(script, store, tmp_path, 400)
    covered = {name: value for name, value in (described(store, other) | claimed).items() if name != "hmac"}
    changed = covered | {"hmac": script.code(key, covered)}
    write(store, other, {name: value for name, value in changed.items() if name not in dropped})
    made = [put(script, store, tmp_path, age) for age in (40, 0)]
    assert store.prune(30, 1, NOW) == made[:1]
    assert names(store) == [other, made[1]]


def test_what_is_too_old_goes(script: ModuleType, store: Any, tmp_path: Path) -> None:
    assert names(store) == []
    made = [put(script, store, tmp_path, age) for age in (40, 31, 29, 0)]
    assert store.prune(30, 1, NOW) == made[:2]
    assert names(store) == made[2:]


def test_the_last_good_ones_stay_however_old(script: ModuleType, store: Any, tmp_path: Path) -> None:
    made = [put(script, store, tmp_path, age) for age in (400, 300, 200)]
    store.files.pipe_file(store.path("20261120T000000Z-airflow-3.3.2-abc.dump"), b"ended half-way")
    store.prune(30, 2, NOW)
    assert names(store) == made[1:], "what ended half-way does not count"


def test_a_dump_that_is_cut_off_is_no_backup(script: ModuleType, store: Any, tmp_path: Path) -> None:
    good, cut = put(script, store, tmp_path, 2), put(script, store, tmp_path, 1)
    store.files.pipe_file(store.path(f"{cut}.dump"), b"x")
    store.files.invalidate_cache()
    assert names(store) == [good]


def test_leftovers_go_after_a_day_and_strangers_stay(script: ModuleType, store: Any, tmp_path: Path) -> None:
    put(script, store, tmp_path, 0)
    for name in ("20261118T000000Z-airflow-3.3.2-abc.dump", "20261121T010000Z-airflow-3.3.2-abc.dump", "notes.dump"):
        store.files.pipe_file(store.path(name), b"x")
    store.prune(30, 1, NOW)
    left = {Path(entry).name for entry in store.files.ls(store.folder, detail=False)}
    assert "20261118T000000Z-airflow-3.3.2-abc.dump" not in left
    assert {"20261121T010000Z-airflow-3.3.2-abc.dump", "notes.dump"} <= left, "one may be on its way"


STRANGERS: dict[str, bytes] = {
    "inventory": b'{"sourceBucket": "a", "destinationBucket": "b", "version": "2016-11-30"}',
    "list": b"[]",
    "cut off": b'{"name": "20261120T000000Z-airflow-3.3.2-abc", "star',
    "empty": b"",
    "not text": b"\xff\xfe\x00\x01\xd8",
    "deep": b"[" * 60_000,
    "large": b" " * 200_000 + b"{}",
    "deep code": b'{"hmac": "0", "more": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "less deep code": b'{"hmac": "0", "more": ' + b"[" * 900 + b"]" * 900 + b"}",
}
DESCRIPTION: dict[str, Any] = {
    "started": "2026-11-20T00:00:00+00:00", "airflow": "3.3.2", "revision": {}, "bytes": 1, "sha256": "a",
}  # fmt: skip


@pytest.mark.parametrize("content", STRANGERS.values(), ids=STRANGERS)
def test_an_object_that_describes_no_backup_is_skipped_and_named(
    script: ModuleType, store: Any, tmp_path: Path, content: bytes
) -> None:
    made = [put(script, store, tmp_path, age) for age in (40, 1)]
    store.files.pipe_file(store.path("stranger.json"), content)
    store.files.invalidate_cache()
    assert names(store) == made
    assert store.contents()[1].keys() == {"stranger.json"}
    assert store.prune(30, 1, NOW) == made[:1]
    assert store.files.exists(store.path("stranger.json")), "it is not ours to delete"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"started": "yesterday"}, "started"),
        ({"started": "2026-11-20T00:00:00"}, "started"),
        ({"started": "0001-01-01T00:00:00+20:00"}, "started"),
        ({"started": None}, "started"),
        ({"revision": []}, "revision"),
        ({"revision": {"alembic_version": ["abc"]}}, "revision"),
        ({"bytes": "1"}, "bytes"),
        ({"bytes": 2}, "1 bytes instead of 2"),
        ({"airflow": 3}, "airflow"),
        ({"sha256": None}, "sha256"),
    ],
    ids=str,
)
def test_a_description_with_a_wrong_value_is_skipped_and_says_which(
    script: ModuleType, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    store = script.Store(f"file://{tmp_path}/backups", {}, seal(script))
    good = put(script, store, tmp_path, 1)
    for name, description in (("right", DESCRIPTION), ("wrong", DESCRIPTION | change)):
        store.files.pipe_file(store.path(f"{name}.dump"), b"x")
        write(store, name, description)
    backups, skipped = store.contents()
    assert {backup.name for backup in backups} == {good, "right"}
    assert skipped.keys() == {"wrong.json"}
    assert named in skipped["wrong.json"]


def test_a_description_without_its_dump_is_named(script: ModuleType, store: Any, tmp_path: Path) -> None:
    good, lost = put(script, store, tmp_path, 2), put(script, store, tmp_path, 1)
    store.files.rm_file(store.path(f"{lost}.dump"))
    store.files.invalidate_cache()
    assert names(store) == [good]
    assert f"there is no {lost}.dump" in store.contents()[1][f"{lost}.json"]


def test_a_description_of_a_newer_script_is_read(script: ModuleType, store: Any, tmp_path: Path) -> None:
    name = put(script, store, tmp_path, 1)
    newer = {key: value for key, value in described(store, name).items() if key != "hmac"} | {"compressed": "zstd"}
    write(store, name, newer | {"hmac": script.code(FIRST_KEY, newer)})
    assert names(store) == [name]
    assert doubts(store) == {}


def test_a_backup_is_called_as_its_object(script: ModuleType, store: Any, tmp_path: Path) -> None:
    """A copy under another name is another backup, which nothing authenticates; its description names the first one."""
    old, new = put(script, store, tmp_path, 40), put(script, store, tmp_path, 1)
    for suffix in ("dump", "json"):
        store.files.pipe_file(store.path(f"zzz.{suffix}"), store.files.cat_file(store.path(f"{old}.{suffix}")))
    store.files.invalidate_cache()
    assert names(store) == [old, "zzz", new], "in the order of their beginnings"
    assert doubts(store).keys() == {"zzz"}
    assert store.prune(30, 1, NOW) == [old, "zzz"]
    assert names(store) == [new]


def test_a_dump_whose_description_is_damaged_stays(script: ModuleType, store: Any, tmp_path: Path) -> None:
    old, _ = put(script, store, tmp_path, 40), put(script, store, tmp_path, 0)
    store.files.pipe_file(store.path(f"{old}.json"), b"{")
    store.prune(30, 1, NOW)
    assert store.files.exists(store.path(f"{old}.dump")), "somebody may still mend its description"


def test_a_folder_with_the_name_of_an_object_is_left_alone(script: ModuleType, store: Any, tmp_path: Path) -> None:
    made = [put(script, store, tmp_path, age) for age in (40, 0)]
    # In object storage the second one lies beside the description of that name.
    folders = ["20261118T000000Z-airflow-3.3.2-abc.dump", "notes.json"]
    folders += [f"{made[1]}.json"] if "file" not in store.files.protocol else []
    for name in folders:
        store.files.makedirs(store.path(name), exist_ok=True)
        store.files.pipe_file(store.path(f"{name}/within"), b"x")
    store.files.invalidate_cache()
    assert store.prune(30, 1, NOW) == made[:1]
    backups, skipped = store.contents()
    assert [backup.name for backup in backups] == made[1:]
    assert skipped == dict.fromkeys(folders[1:], "is not a file")
    assert all(store.files.exists(store.path(f"{name}/within")) for name in folders)


def test_what_would_never_end_when_it_is_read_is_not_read(folder: Any, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    os.mkfifo(tmp_path / "backups/x.json")
    asked = "import backup; print(backup.open_store()[0].contents())"
    scripts = str(ROOT / "charts/platform/files/scripts")
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=scripts, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "([], {'x.json': 'is not a file'})\n"
    assert folder.contents() == ([], {"x.json": "is not a file"})


UNSHOWN = {
    "clears the screen": "\x1b[2Jx",
    "second line": "x\nresult: {}",
    "other direction": "\u202ex",
    "no text": "\udcffx",
}
"""Names that somebody can give an object, and that a terminal would not show as they are."""


@pytest.mark.parametrize("name", UNSHOWN.values(), ids=UNSHOWN)
def test_a_backup_whose_name_cannot_be_shown_is_skipped_and_stays(
    script: ModuleType, tmp_path: Path, name: str
) -> None:
    store = script.Store(f"file://{tmp_path}/backups", {}, seal(script))
    old, new = put(script, store, tmp_path, 40), put(script, store, tmp_path, 0)
    for suffix in ("json", "dump"):
        (tmp_path / f"backups/{name}.{suffix}").write_bytes(store.files.cat_file(store.path(f"{old}.{suffix}")))
    backups, skipped = store.contents()
    assert [backup.name for backup in backups] == [old, new]
    assert skipped == {ascii(f"{name}.json"): "has a name that cannot be shown as it is"}
    assert store.prune(30, 1, NOW) == [old]
    assert (tmp_path / f"backups/{name}.dump").exists()


def test_a_backup_with_letters_of_any_language_in_its_name_is_read(script: ModuleType, tmp_path: Path) -> None:
    store = script.Store(f"file://{tmp_path}/backups", {}, seal(script))
    old = put(script, store, tmp_path, 40)
    for suffix in ("json", "dump"):
        (tmp_path / f"backups/übung 1.{suffix}").write_bytes(store.files.cat_file(store.path(f"{old}.{suffix}")))
    assert names(store) == [old, "übung 1"]


@pytest.mark.parametrize("error", [PermissionError("denied"), FileNotFoundError("gone"), IsADirectoryError("folder")])
def test_one_object_that_may_not_be_read_is_skipped(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    store = script.Store(f"file://{tmp_path}/backups", {}, seal(script))
    made = [put(script, store, tmp_path, age) for age in (2, 1)]
    refuse(store, made[1], monkeypatch, error)
    backups, skipped = store.contents()
    assert [backup.name for backup in backups] == made[:1]
    assert str(error) in skipped[f"{made[1]}.json"]


def test_a_store_that_does_not_answer_is_not_taken_for_an_empty_one(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = script.Store(f"file://{tmp_path}/backups", {}, seal(script))
    refuse(store, put(script, store, tmp_path, 1), monkeypatch, TimeoutError("no answer"))
    with pytest.raises(TimeoutError):
        store.backups()


def refuse(store: Any, name: str, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """Let an error come of reading one description."""
    read = store.files.cat_file

    def cat_file(path: str) -> Any:
        if path == store.path(f"{name}.json"):
            raise error
        return read(path)

    monkeypatch.setattr(store.files, "cat_file", cat_file)


@pytest.fixture
def folder(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store of the pod's environment, beside its work folder."""
    settings = {"uri": f"file://{tmp_path}/backups", "storageOptions": {}, "keepDays": 30, "keepAtLeast": 1}
    monkeypatch.setenv("BACKUP", json.dumps({**settings, "environment": "dev", "namespace": "airflow-dev"}))
    monkeypatch.setenv("BACKUP_KEY", FIRST_KEY)
    monkeypatch.setenv("AIRFLOW_VERSION", "3.3.2")
    monkeypatch.setattr(script, "WORK", tmp_path)
    return script.Store(settings["uri"], {}, seal(script))


def test_a_backup_is_made_beside_a_stranger_which_it_names(script: ModuleType, folder: Any, tmp_path: Path) -> None:
    put(script, folder, tmp_path, 400)
    folder.files.pipe_file(folder.path("inventory.json"), STRANGERS["inventory"])
    (tmp_path / "facts").write_text("started=2026-11-20T00:00:00+00:00\nalembic_version=abc\n")
    stored = script.store_dump()
    assert (stored["kept"], len(stored["deleted"])) == (1, 1)
    assert stored["skipped"].keys() == {"inventory.json"}
    assert names(folder) == [stored["name"]]
    assert doubts(folder) == {}


def test_who_asks_for_a_skipped_backup_is_told_why(script: ModuleType, folder: Any, tmp_path: Path) -> None:
    good, cut = put(script, folder, tmp_path, 2), put(script, folder, tmp_path, 1)
    folder.files.pipe_file(folder.path(f"{cut}.json"), STRANGERS["cut off"])
    assert script.chosen(good).name == good
    with pytest.raises(script.ProblemError, match=f"{cut}.json is not whole JSON"):
        script.chosen(cut)
    with pytest.raises(script.ProblemError, match="there is no backup other"):
        script.chosen("other")


def test_libpq_gets_every_part_of_the_address(script: ModuleType) -> None:
    url = sa.make_url(
        "postgresql+psycopg2://air%40flow:p%2Fw@db.example.com/airflow?sslmode=verify-full&sslrootcert=/ca"
    )
    assert script.service("metadata", url).splitlines() == [
        "[metadata]", "host=db.example.com", "port=5432", "user=air@flow", "password=p/w", "dbname=airflow",
        "sslmode=verify-full", "sslrootcert=/ca",
    ]  # fmt: skip


KEY, OTHER_KEY = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def encrypted(text: str = "x", key: str = KEY) -> str:
    return Fernet(key.encode()).encrypt(text.encode()).decode()


@pytest.fixture(scope="module")
def tables() -> sa.Engine:
    """A database with Airflow's own tables."""
    import airflow.models
    from airflow.models.base import Base

    airflow.models.import_all_models()
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def database(tables: sa.Engine) -> Iterator[sa.Connection]:
    """One in which nothing is encrypted."""
    with tables.connect() as connection:  # its end takes back what a test has done
        plain, text = {"is_encrypted": False, "is_extra_encrypted": False}, "readable"
        insert(connection, "variable", key="plain", val=text, is_encrypted=False)
        insert(connection, "connection", conn_id="plain", password=text, extra="{}", **plain)
        insert(connection, "connection", conn_id="empty", is_encrypted=True, is_extra_encrypted=True)
        # As the execution API writes it for a task that defers.
        insert(connection, "trigger", id=1, kwargs='{"delta": 180}', created_date=NOW)
        yield connection


ENCRYPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "variable mark": ("variable", {"key": "mark", "val": encrypted(), "is_encrypted": True}),
    "password of connection shop": (
        "connection",
        {"conn_id": "shop", "password": encrypted(), "is_encrypted": True, "is_extra_encrypted": False},
    ),
    "extra of connection bank": (
        "connection",
        {"conn_id": "bank", "extra": encrypted(), "is_encrypted": False, "is_extra_encrypted": True},
    ),
    "arguments of trigger 7": ("trigger", {"id": 7, "kwargs": encrypted(), "created_date": NOW}),
    "password of connection test shop": (
        "connection_test_request",
        {"id": uuid4(), "connection_id": "shop", "password": encrypted(), "is_encrypted": True},
    ),
    "extra of connection test bank": (
        "connection_test_request",
        {"id": uuid4(), "token": "b", "connection_id": "bank", "extra": encrypted(), "is_extra_encrypted": True},
    ),
}


@pytest.mark.parametrize("what", ENCRYPTED)
def test_a_restore_looks_whether_the_key_fits(
    script: ModuleType, database: sa.Connection, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    table, row = ENCRYPTED[what]
    insert(database, table, **row)
    monkeypatch.setenv("FERNET_KEY", f"{OTHER_KEY},{KEY}")
    assert script.decrypt_all(database) == 1
    monkeypatch.setenv("FERNET_KEY", OTHER_KEY)
    with pytest.raises(script.ProblemError, match=f"does not decrypt the {what}:"):
        script.decrypt_all(database)


def test_what_is_not_encrypted_needs_no_key(
    script: ModuleType, database: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERNET_KEY", KEY)
    assert script.decrypt_all(database) == 0


def test_a_backup_of_an_airflow_without_one_of_the_tables_is_read(
    script: ModuleType, database: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 3.2 has no tests of connections."""
    insert(database, "variable", **ENCRYPTED["variable mark"][1])
    database.execute(sa.text("DROP TABLE connection_test_request"))
    monkeypatch.setenv("FERNET_KEY", KEY)
    assert script.decrypt_all(database) == 1


def test_every_table_with_something_encrypted_is_known(script: ModuleType, database: sa.Connection) -> None:
    """What Airflow encrypts it can encrypt anew; a new version may have one more table of the kind."""
    from airflow.models.base import Base

    rotated = {m.local_table.name for m in Base.registry.mappers if hasattr(m.class_, "rotate_fernet_key")}
    assert {table for table, _ in script.ENCRYPTED.values()} == rotated


def test_the_revisions_are_those_of_the_installed_airflow(script: ModuleType) -> None:
    assert script.heads().keys() == {"alembic_version", "alembic_version_fab"}
    assert all(script.heads().values())


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with running_server() as running:
        with beside(running) as cursor:
            for owner in ("postgres", "keeper"):
                cursor.execute(f"CREATE ROLE {owner}_reader LOGIN; CREATE ROLE {owner}_dag_code LOGIN")
        yield running


@pytest.fixture
def server(script: ModuleType, folder: Any, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A PostgreSQL whose metadata database is called metadata, and the pod's environment for it."""
    monkeypatch.setenv("CONNECTION", postgres.url(database="metadata"))
    monkeypatch.setenv("FERNET_KEY", KEY)
    return postgres


@contextmanager
def beside(server: Server, database: str = "postgres", user: str = "postgres") -> Iterator[Any]:
    """Cursor of somebody else, who does not wait long for a lock."""
    connection = psycopg2.connect(host=str(server.folder), user=user, dbname=database)
    connection.autocommit = True
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
        yield cursor


def create(server: Server, database: str, content: str = "", comment: str = "") -> None:
    """Make a database anew; without content it is empty, as one into which nothing is loaded yet."""
    with beside(server) as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {database} TEMPLATE template0")
        cursor.execute(f"COMMENT ON DATABASE {database} IS %s", (comment,))
    if content:
        with beside(server, database) as cursor:
            cursor.execute("CREATE TABLE content (text TEXT)")
            cursor.execute("INSERT INTO content VALUES (%s)", (content,))


def content(server: Server, database: str) -> str | None:
    """What `create` has written into a database; None where it is empty."""
    with beside(server, database) as cursor:
        cursor.execute("SELECT to_regclass('content')")
        if cursor.fetchone() == (None,):
            return None
        cursor.execute("SELECT text FROM content")
        return str(cursor.fetchone()[0])


def comment(server: Server, database: str) -> str:
    with beside(server) as cursor:
        cursor.execute("SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = %s",
                       (database,))  # fmt: skip
        return str(cursor.fetchone()[0])


def databases(server: Server) -> set[str]:
    with beside(server) as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'metadata%' OR datname = 'airflow_restored'")
        return {name for (name,) in cursor.fetchall()}


@contextmanager
def before_statement(number: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Let somebody else act before the statement of a number that goes to any database; gives the statements."""
    seen: list[str] = []

    def watch(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)
        if len(seen) == number:
            act()

    sa.event.listen(sa.Engine, "before_cursor_execute", watch)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", watch)


def another_restore_begins(server: Server) -> None:
    """What `fetch` does; a lock that it would wait for keeps it away."""
    with suppress(psycopg2.errors.LockNotAvailable):
        create(server, "airflow_restored")


@pytest.mark.parametrize("there", [True, False], ids=["beside the present one", "the present one is lost"])
def test_a_restored_database_takes_the_place_and_the_former_is_kept(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path, there: bool
) -> None:
    name = put(script, folder, tmp_path, 1)
    clear(server)
    create(server, "airflow_restored", "backup", f"restored from {name}")
    if there:
        create(server, "metadata", "present")
    former = script.swap(name, discard=False)["former"]
    assert content(server, "metadata") == "backup"
    assert databases(server) == {"metadata", former} - {None}
    assert not there or content(server, former) == "present"


def clear(server: Server) -> None:
    for database in databases(server):
        with beside(server) as cursor:
            cursor.execute(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.mark.parametrize("said", ["", "restored from another"])
def test_a_database_that_is_not_known_to_hold_the_backup_takes_no_place(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path, said: str
) -> None:
    name = put(script, folder, tmp_path, 1)
    clear(server)
    create(server, "metadata", "present")
    create(server, "airflow_restored", "half", said)
    with pytest.raises(script.ProblemError, match="does not hold"):
        script.swap(name, discard=True)
    assert content(server, "metadata") == "present"
    assert databases(server) == {"metadata", "airflow_restored"}


def test_a_restore_that_begins_during_a_swap_puts_no_empty_database_in_place(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    """Whenever it begins: the place has the backup, or what was there before and an error."""
    name = put(script, folder, tmp_path, 1)
    for number in itertools.count(1):
        clear(server)
        create(server, "metadata", "present")
        create(server, "airflow_restored", "backup", f"restored from {name}")
        with before_statement(number, lambda: another_restore_begins(server)) as seen:
            expected = "backup"
            try:
                script.swap(name, discard=False)
            except (script.ProblemError, sa.exc.SQLAlchemyError):
                expected = "present"
        assert content(server, "metadata") == expected, seen[number - 1 :]
        if len(seen) < number:
            break
    assert expected == "backup", "nobody came between in the last round"
    assert number > 5


def load(script: ModuleType, server: Server, user: str = "postgres") -> None:
    """What pg_restore does between `fetch` and `verify`, as far as the check looks at it."""
    with beside(server, "airflow_restored", user) as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS dag_run ()")
        for table, revision in script.heads().items():
            cursor.execute(f"CREATE TABLE {table} (version_num TEXT)")
            cursor.execute(f"INSERT INTO {table} SELECT %s", (revision,))


def test_a_database_is_marked_as_whole_when_it_is_loaded_and_checked(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    name = put(script, folder, tmp_path, 1, **script.heads())
    clear(server)
    script.fetch(name)
    assert comment(server, "airflow_restored") == ""
    make_tables(server, "airflow_restored")
    load(script, server)
    with server.engine(database="airflow_restored").begin() as connection:
        for table, row in ENCRYPTED.values():
            insert(connection, table, **row)
    assert script.verify(name) == {"runs": 0, "decrypted": len(ENCRYPTED)}
    assert comment(server, "airflow_restored") == f"restored from {name}"


STEPS: dict[str, Callable[[ModuleType, str], Any]] = {
    "fetch": lambda script, name: script.fetch(name),
    "verify": lambda script, name: script.verify(name),
    "swap": lambda script, name: script.swap(name, discard=True),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("accepted", [None, "another:{sum}", "{name}"])
def test_no_step_of_a_restore_takes_a_backup_that_is_not_authenticated(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    step: str, accepted: str | None,
) -> None:  # fmt: skip
    name = put_unauthenticated(script, folder, tmp_path, 1, **script.heads())
    (tmp_path / "dump").unlink()
    clear(server)
    create(server, "metadata", "present")
    if accepted:
        accepted = accepted.format(name=name, sum=described(folder, name)["sha256"])
        monkeypatch.setenv("ACCEPT_UNAUTHENTICATED", accepted)
    with pytest.raises(script.ProblemError, match=rf"{name} is not authenticated: its description has no HMAC"):
        STEPS[step](script, name)
    assert content(server, "metadata") == "present"
    assert databases(server) == {"metadata"}
    assert not (tmp_path / "dump").exists(), "it is not even downloaded"


def test_a_backup_that_is_not_authenticated_is_restored_on_purpose(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put_unauthenticated(script, folder, tmp_path, 1, **script.heads())
    monkeypatch.setenv("ACCEPT_UNAUTHENTICATED", f"{name}:{described(folder, name)['sha256']}")
    clear(server)
    create(server, "metadata", "present")
    script.fetch(name)
    load(script, server)
    script.verify(name)
    script.swap(name, discard=False)
    assert comment(server, "metadata") == f"restored from {name}"


@pytest.mark.parametrize("step", STEPS)
def test_what_was_exchanged_after_it_was_accepted_is_not_restored(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Somebody accepts a dump, and not whatever gets its name in the minutes of a restore."""
    name = put_unauthenticated(script, folder, tmp_path, 1, **script.heads())
    clear(server)
    create(server, "metadata", "present")
    monkeypatch.setenv("ACCEPT_UNAUTHENTICATED", f"{name}:{described(folder, name)['sha256']}")
    if step != "fetch":
        script.fetch(name)
        load(script, server)
    if step == "swap":
        script.verify(name)
    (tmp_path / "dump").write_bytes(b"yy")
    folder.files.pipe_file(folder.path(f"{name}.dump"), b"yy")
    write(folder, name, described(folder, name) | {"sha256": script.sha256(tmp_path / "dump")})
    with pytest.raises(script.ProblemError, match=rf"{name} is not the one that was accepted: its checksum is now"):
        STEPS[step](script, name)
    assert content(server, "metadata") == "present"


def test_the_dump_of_an_authenticated_backup_cannot_be_exchanged(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    name = put(script, folder, tmp_path, 1)
    dump = folder.files.cat_file(folder.path(f"{name}.dump"))
    folder.files.pipe_file(folder.path(f"{name}.dump"), b"y" * len(dump))
    clear(server)
    assert doubts(folder) == {}
    with pytest.raises(script.ProblemError, match="damaged"):
        script.fetch(name)
    assert databases(server) == set()


def test_whoever_looks_is_told_which_backups_are_authenticated(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    before, good = put_unauthenticated(script, folder, tmp_path, 2), put(script, folder, tmp_path, 1)
    clear(server)
    assert {each["name"]: bool(each["unauthenticated"]) for each in script.look()["backups"]} == {
        before: True,
        good: False,
    }


def test_a_restored_database_can_be_read_by_those_who_could_read_the_former(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    name = put(script, folder, tmp_path, 1, **script.heads())
    clear(server)
    script.fetch(name)
    load(script, server)
    script.verify(name)
    with beside(server, "airflow_restored", "postgres_reader") as cursor:
        cursor.execute("SELECT FROM dag_run")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("DELETE FROM dag_run")


def test_a_restore_on_a_server_without_a_role_says_so_before_anything_is_in_place(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    name = put(script, folder, tmp_path, 1, **script.heads())
    clear(server)
    script.fetch(name)
    load(script, server)
    with beside(server) as cursor:
        cursor.execute("ALTER ROLE postgres_reader RENAME TO gone")
        with pytest.raises(script.ProblemError, match="has no role postgres_reader"):
            script.verify(name)
        cursor.execute("ALTER ROLE gone RENAME TO postgres_reader")
    assert comment(server, "airflow_restored") == "", "it cannot be swapped in"


def test_a_login_that_acts_as_another_role_may_mark_it(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two logins take turns, and only a third role owns the database; databases are made by an administrator."""
    name = put(script, folder, tmp_path, 1, **script.heads())
    clear(server)
    with beside(server) as cursor:
        cursor.execute("CREATE ROLE keeper; CREATE ROLE login LOGIN IN ROLE keeper; ALTER ROLE login SET role = keeper")
    monkeypatch.setenv("CONNECTION", server.url("login", "metadata"))
    monkeypatch.setenv("CONNECTION_ADMIN", server.url())
    script.fetch(name)
    load(script, server, "login")
    script.verify(name)
    script.swap(name, discard=False)
    assert comment(server, "metadata") == f"restored from {name}"


def test_only_the_database_that_was_loaded_and_checked_is_marked_as_whole(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    """Another restore may begin before each statement of the check: it makes the database anew."""
    name = put(script, folder, tmp_path, 1, **script.heads())
    clear(server)
    for number in itertools.count(1):
        script.fetch(name)
        load(script, server)
        with (
            before_statement(number, lambda: another_restore_begins(server)) as seen,
            suppress(script.ProblemError, sa.exc.SQLAlchemyError),
        ):
            script.verify(name)
        if len(seen) < number:
            break
        assert comment(server, "airflow_restored") == "" or has_runs(server), seen[number - 1 :]
    assert comment(server, "airflow_restored") == f"restored from {name}", "nobody came between in the last round"
    assert number > 5


def has_runs(server: Server) -> bool:
    with beside(server, "airflow_restored") as cursor:
        cursor.execute("SELECT to_regclass('dag_run')")
        return bool(cursor.fetchone() != (None,))


def test_what_another_restore_is_still_loading_is_not_taken_for_ones_own(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    """It may have all that is looked at, and not the rest."""
    name = put(script, folder, tmp_path, 1, **script.heads())
    clear(server)
    script.fetch(name)
    another_restore_begins(server)
    load(script, server)
    with pytest.raises(script.ProblemError, match="another restore"):
        script.verify(name)
    assert comment(server, "airflow_restored") == ""


def test_a_database_that_airflow_works_on_is_not_made_anew(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have pointed the Secret at the loaded database in place of the swap."""
    name = put(script, folder, tmp_path, 1)
    clear(server)
    create(server, "airflow_restored", "present")
    monkeypatch.setenv("CONNECTION", server.url(database="airflow_restored"))
    with pytest.raises(script.ProblemError, match="Rename it"):
        script.fetch(name)
    assert content(server, "airflow_restored") == "present"


def test_a_stranger_in_the_store_stops_no_step_of_a_restore(
    script: ModuleType, server: Server, folder: Any, tmp_path: Path
) -> None:
    name = put(script, folder, tmp_path, 1, **script.heads())
    for stranger, text in STRANGERS.items():
        folder.files.pipe_file(folder.path(f"{stranger}.json"), text)
    clear(server)
    create(server, "metadata", "present")
    found = script.look()
    assert [backup["name"] for backup in found["backups"]] == [name]
    assert found["skipped"].keys() == {f"{stranger}.json" for stranger in STRANGERS}
    script.fetch(name)
    load(script, server)
    script.verify(name)
    script.swap(name, discard=False)
    assert comment(server, "metadata") == f"restored from {name}"
