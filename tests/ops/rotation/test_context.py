"""What a rotation reads and writes in a cluster; a fake Kubernetes API answers as the real one does."""

import json
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster.secrets import named_secrets
from airflow_ops.console import ProblemError
from airflow_ops.rotation import context, git
from airflow_ops.rotation.context import RotationContext
from airflow_ops.rotation.sequence import RotationState
from airflow_ops.rotation.state import ConfigMapStore

GIT = {"ssh-privatekey": "old", "known_hosts": "hosts"}


class FakeCore:
    """Secrets and ConfigMaps of one namespace, with resource versions."""

    def __init__(self) -> None:
        self.patched: list[dict[str, Any]] = []
        self.maps: dict[str, Any] = {}

    def patch_namespaced_secret(self, name: str, namespace: str, body: dict[str, Any]) -> None:
        self.patched.append(body["data"])

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


def cluster(**secrets: dict[str, str]) -> Any:
    return SimpleNamespace(namespace="airflow-dev", core=FakeCore(), secret=secrets.get, kubectl=lambda *_, **__: "")


def environment(mode: str, **secrets: dict[str, str]) -> RotationContext:
    store = {"mode": mode, "prefix": "airflow/dev", "store": {"name": "vault"}}
    made = cluster(**secrets)
    made.environment = SimpleNamespace(
        name="dev", values={"platform": {"secrets": store}}, secret={"git": "git", "gitOrigin": "git"}.__getitem__
    )
    return RotationContext(made)


def test_a_secret_is_patched_with_what_differs_and_without_what_went() -> None:
    there = environment("generated", git=GIT)
    there.change("git", lambda present: {"ssh-privatekey": "new"})
    [data] = there.cluster.core.patched  # type: ignore[attr-defined]
    assert b64decode(data["ssh-privatekey"]) == b"new"
    assert data["known_hosts"] is None


def test_a_secret_that_is_right_is_not_written() -> None:
    there = environment("generated", git=GIT)
    there.change("git", lambda present: present)
    assert there.cluster.core.patched == []  # type: ignore[attr-defined]


def test_a_secret_that_is_missing_is_named() -> None:
    with pytest.raises(ProblemError, match="Secret git does not exist in airflow-dev"):
        environment("generated").change("git", lambda present: present)


def test_of_a_store_the_content_wanted_is_kept_until_it_has_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(context, "ROOT", tmp_path)
    monkeypatch.setattr(context, "STORE_SECONDS", -1)
    secrets = {"git": dict(GIT)}
    there = environment("external", **secrets)
    with pytest.raises(ProblemError, match="airflow/dev/git-origin did not reach Secret git"):
        there.change("gitOrigin", lambda present: present | {"ssh-privatekey": "first draw"})
    file = tmp_path / ".local/rotation/dev/gitOrigin.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "first draw" not in capsys.readouterr().out

    there = environment("external", git=json.loads(file.read_text()))
    there.change("gitOrigin", lambda present: present | {"ssh-privatekey": "second draw"})
    assert not file.exists(), "what was drawn first has arrived, and nothing else is drawn"
    assert there.cluster.core.patched == []  # type: ignore[attr-defined]


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
