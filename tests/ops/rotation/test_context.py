"""What a rotation reads and writes in a cluster; a fake Kubernetes API answers as the real one does."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.secrets import named_secrets
from airflow_ops.console import ProblemError, RefusalError
from airflow_ops.rotation import context, git
from airflow_ops.rotation.context import RotationContext
from airflow_ops.rotation.sequence import RotationState
from airflow_ops.rotation.state import ConfigMapStore

GIT = {"ssh-privatekey": "old", "known_hosts": "hosts"}


class FakeCore:
    """Secrets and ConfigMaps of one namespace, with resource versions."""

    def __init__(self, secrets: dict[str, dict[str, str]]) -> None:
        self.secrets = secrets
        self.versions = dict.fromkeys(secrets, 1)
        self.patched: list[dict[str, Any]] = []
        self.maps: dict[str, Any] = {}
        self.before_patch: Callable[[], None] = lambda: None
        self.loses_answer = False

    def put(self, name: str, content: dict[str, str]) -> None:
        """Somebody changes a Secret: a person, an operator, another command."""
        self.secrets[name] = content
        self.versions[name] += 1

    def read_namespaced_secret(self, name: str, namespace: str) -> Any:
        if name not in self.secrets:
            raise ApiException(status=404)
        data = {key: b64encode(text.encode()).decode() for key, text in self.secrets[name].items()}
        return client.V1Secret(metadata=client.V1ObjectMeta(resource_version=str(self.versions[name])), data=data)

    def patch_namespaced_secret(self, name: str, namespace: str, body: dict[str, Any]) -> None:
        self.before_patch()
        version = body.get("metadata", {}).get("resourceVersion")
        if version not in (None, str(self.versions[name])):
            raise ApiException(status=409, reason="Conflict")
        self.patched.append(body["data"])
        merged = self.secrets[name] | {key: text and b64decode(text).decode() for key, text in body["data"].items()}
        self.put(name, {key: text for key, text in merged.items() if text is not None})
        if self.loses_answer:  # The client sends it again, with the version that its own write has replaced.
            self.loses_answer = False
            self.patch_namespaced_secret(name, namespace, body)

    def read_namespaced_config_map(self, name: str, namespace: str) -> Any:
        if name not in self.maps:
            raise ApiException(status=404)
        return self.maps[name]

    def create_namespaced_config_map(self, namespace: str, body: Any) -> Any:
        if body.metadata.name in self.maps:
            raise ApiException(status=409)
        return self._store(body, "1")

    def replace_namespaced_config_map(self, name: str, namespace: str, body: Any) -> Any:
        version = self.maps[name].metadata.resource_version
        if body.metadata.resource_version != version:
            raise ApiException(status=409)
        return self._store(body, str(int(version) + 1))

    def _store(self, body: Any, version: str) -> Any:
        metadata = client.V1ObjectMeta(name=body.metadata.name, resource_version=version)
        self.maps[body.metadata.name] = client.V1ConfigMap(metadata=metadata, data=body.data)
        return self.maps[body.metadata.name]


def cluster(mode: str = "generated", **secrets: dict[str, str]) -> Any:
    store = {"mode": mode, "prefix": "airflow/dev", "store": {"name": "vault"}}
    environment = SimpleNamespace(
        name="dev",
        namespace="airflow-dev",
        values={"platform": {"secrets": store}},
        secret={"git": "git", "gitOrigin": "git"}.__getitem__,
    )
    made = Cluster(environment, "test")  # type: ignore[arg-type]
    made.__dict__.update(core=FakeCore(secrets), kubectl=lambda *_, **__: "")
    return made


def environment(mode: str, **secrets: dict[str, str]) -> RotationContext:
    return RotationContext(cluster(mode, **secrets))


def test_a_secret_is_patched_with_what_differs_and_without_what_went() -> None:
    there = environment("generated", git=GIT)
    there.change("git", lambda present: {"ssh-privatekey": "new"})
    [data] = there.cluster.core.patched
    assert b64decode(data["ssh-privatekey"]) == b"new"
    assert data["known_hosts"] is None


def test_a_secret_that_is_right_is_not_written() -> None:
    there = environment("generated", git=GIT)
    there.change("git", lambda present: present)
    assert there.cluster.core.patched == []


def test_a_secret_that_is_missing_is_named() -> None:
    with pytest.raises(ProblemError, match="Secret git does not exist in airflow-dev"):
        environment("generated").change("git", lambda present: present)


def test_a_secret_is_changed_in_the_version_that_was_read_only() -> None:
    there = environment("existing", git=dict(GIT))
    core = there.cluster.core
    core.before_patch = lambda: core.put("git", GIT | {"known_hosts": "of somebody else"})
    with pytest.raises(RefusalError, match="Secret git .* changed .* run this again"):
        there.change("git", lambda present: present | {"ssh-privatekey": "new"})
    assert core.secrets["git"] == GIT | {"known_hosts": "of somebody else"}

    core.before_patch = lambda: None
    there.change("git", lambda present: present | {"ssh-privatekey": "new"})
    assert core.secrets["git"] == {"ssh-privatekey": "new", "known_hosts": "of somebody else"}


def test_a_change_whose_answer_was_lost_is_no_conflict() -> None:
    there = environment("generated", git=dict(GIT))
    there.cluster.core.loses_answer = True
    there.change("git", lambda present: present | {"ssh-privatekey": "new"})
    assert there.cluster.core.secrets["git"]["ssh-privatekey"] == "new"


def test_what_else_kubernetes_refuses_is_not_taken_for_a_conflict() -> None:
    def refuse() -> None:
        raise ApiException(status=403)

    there = environment("generated", git=dict(GIT))
    there.cluster.core.before_patch = refuse
    with pytest.raises(ApiException) as caught:
        there.change("git", lambda present: present | {"ssh-privatekey": "new"})
    assert caught.value.status == 403


def drawn(present: dict[str, str]) -> dict[str, str]:
    """A change as rotations make them: what is drawn anew each time, where it is not there yet."""
    return present if "next" in present else present | {"next": uuid4().hex}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files for a store are; nobody puts them there, and nobody waits for it."""
    monkeypatch.setattr(context, "ROOT", tmp_path)
    monkeypatch.setattr(context, "STORE_SECONDS", -1)
    return tmp_path / ".local/rotation/dev"


def left_by_an_attempt(
    folder: Path, there: RotationContext, change: Callable[[dict[str, str]], dict[str, str]] = drawn
) -> Path:
    """The file of an attempt that ended while it waited for the store."""
    with pytest.raises(ProblemError, match="airflow/dev/git-origin did not reach Secret git"):
        there.change("gitOrigin", change)
    [file] = folder.iterdir()
    return file


def test_of_a_store_the_content_wanted_is_kept_until_it_has_arrived(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = environment("external", git=dict(GIT))
    file = left_by_an_attempt(folder, there)
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    first = json.loads(file.read_text())
    assert first.items() > GIT.items()
    said = capsys.readouterr().out
    assert file.name in said
    assert first["next"] not in said

    assert json.loads(left_by_an_attempt(folder, there).read_text()) == first, "nothing else is drawn"

    there.cluster.core.put("git", first)
    there.change("gitOrigin", drawn)
    assert list(folder.iterdir()) == [], "it has arrived"
    assert there.cluster.core.patched == [], "a Secret of a store is not written"


def test_a_file_made_from_another_content_is_discarded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody ended that rotation from another machine; months later the key of then would come back."""
    last_year = left_by_an_attempt(folder, environment("external", git={"ssh-privatekey": "of last year"}))
    wanted = json.loads(left_by_an_attempt(folder, environment("external", git=dict(GIT))).read_text())
    assert wanted["ssh-privatekey"] == "old", "the key in use"
    assert f"discarded .local/rotation/dev/{last_year.name}" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("name", ["gitOrigin.json", "gitOrigin-0000.json", "gitOrigin-0000.draft"])
def test_files_of_other_attempts_do_not_stay_with_their_keys(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(GIT | {"ssh-privatekey": "of last year"}))
    others = [folder / other for other in ("gitOther.json", "fernet-0000.json", "make-role.sql")]
    for other in others:
        other.write_text("of another Secret")
    there = environment("external", git=dict(GIT))
    with pytest.raises(ProblemError, match="did not reach Secret git"):
        there.change("gitOrigin", drawn)
    [file] = set(folder.iterdir()) - set(others)
    assert json.loads(file.read_text()).items() > GIT.items()

    (folder / name).write_text("x")
    there.change("gitOrigin", lambda present: present)
    assert set(folder.iterdir()) == set(others)


@pytest.mark.parametrize("text", ["", '{"ssh-privatekey": "o', "[]", "null", "{}", '{"next": 1}', "\udcff"])
def test_a_file_that_was_cut_off_or_damaged_is_made_anew(folder: Path, text: str) -> None:
    there = environment("external", git=dict(GIT))
    left_by_an_attempt(folder, there).write_bytes(text.encode(errors="surrogateescape"))
    assert json.loads(left_by_an_attempt(folder, there).read_text()).items() > GIT.items()


def test_a_file_is_never_seen_half_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = environment("external", git=dict(GIT))
    with monkeypatch.context() as full:
        full.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            there.change("gitOrigin", drawn)
    assert not list(folder.glob("*.json"))
    assert left_by_an_attempt(folder, there).suffix == ".json", "and the half-written one is gone"


def test_another_credential_than_that_of_the_attempt_before_is_taken(folder: Path) -> None:
    """The operator corrects the files of `--from` and runs the command again."""
    there = environment("external", git=dict(GIT))
    left_by_an_attempt(folder, there, lambda present: git.add(present, {"ssh-privatekey": "with a mistake"}))
    file = left_by_an_attempt(folder, there, lambda present: git.add(present, {"ssh-privatekey": "right"}))
    assert json.loads(file.read_text()) == git.add(GIT, {"ssh-privatekey": "right"})


def test_an_old_file_that_equals_the_secret_does_not_pass_for_a_step_that_was_done(folder: Path) -> None:
    other = environment("external", git={"ssh-privatekey": "of last year"})
    file = left_by_an_attempt(folder, other, lambda _: dict(GIT))
    assert json.loads(file.read_text()) == GIT
    assert "next" in json.loads(left_by_an_attempt(folder, environment("external", git=dict(GIT))).read_text())


def test_another_content_than_the_wanted_one_ends_the_wait_with_the_file_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = environment("external", git=dict(GIT))
    core = there.cluster.core
    mistaken = {"ssh-privatekey": "put there by mistake"}
    there.cluster.__dict__["kubectl"] = lambda *_, **__: core.put("git", mistaken)
    monkeypatch.setattr(context, "STORE_SECONDS", 60)
    monkeypatch.setattr(context, "LOOK_SECONDS", 0)
    with pytest.raises(ProblemError, match="Secret git .* neither .* airflow/dev/git-origin.* run this again"):
        there.change("gitOrigin", drawn)
    [file] = folder.iterdir()

    core.put("git", json.loads(file.read_text()))
    there.change("gitOrigin", drawn)
    assert list(folder.iterdir()) == []


def test_of_two_that_rotate_the_same_one_ends() -> None:
    there = cluster()
    first, second = ConfigMapStore(there, "jwt"), ConfigMapStore(there, "jwt")
    assert first.read() == second.read() == RotationState()
    first.write(RotationState("add"))
    with pytest.raises(ProblemError, match="run by somebody else"):
        second.write(RotationState("add"))
    assert ConfigMapStore(there, "jwt").read().done == "add"


def test_a_pod_reads_the_secrets_of_its_environment_and_its_volumes() -> None:
    spec = {
        "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "a"}}]}],
        "containers": [
            {
                "name": "c",
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}}, {"name": "Y"}],
            }
        ],
        "volumes": [
            {"name": "v", "secret": {"secretName": "c"}},
            {"name": "w", "projected": {"sources": [{"secret": {"name": "d"}}]}},
            {"name": "x", "configMap": {"name": "no"}},
        ],
    }
    assert named_secrets(spec) == {"a", "b", "c", "d"}
    answer = SimpleNamespace(data=json.dumps(spec))
    api = client.ApiClient()
    from_cluster = api.sanitize_for_serialization(api.deserialize(answer, "V1PodSpec"))
    assert named_secrets(from_cluster) == {"a", "b", "c", "d"}, "as `rollouts.readers` asks for workloads of a cluster"


def test_a_secret_that_a_pod_starts_without_can_be_left_out() -> None:
    optional = {"name": "b", "key": "k", "optional": True}
    spec = {
        "containers": [
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": optional}}], "envFrom": [{"secretRef": {"name": "a"}}]}
        ]
    }
    assert named_secrets(spec) == {"a", "b"}
    assert named_secrets(spec, optional=False) == {"a"}


def test_a_git_credential_stands_beside_the_old_one_and_then_instead_of_it() -> None:
    both = git.add(GIT, {"ssh-privatekey": "new"})
    assert both == {**GIT, "next-ssh-privatekey": "new"}
    assert git.swap(both) == {"ssh-privatekey": "new", "known_hosts": "hosts"}
    assert git.swap(git.swap(both)) == git.swap(both)


def test_a_folder_with_anything_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="is not a folder with a credential"):
        git.read_folder(tmp_path / "missing")
    (tmp_path / "id_ed25519").write_text("x")
    with pytest.raises(ProblemError, match="holds id_ed25519"):
        git.read_folder(tmp_path)
