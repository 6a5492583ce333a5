"""k8s/signatures: Kyverno's own program judges pods by the policies; the images are in a registry on this machine.

The keys are made here, so the policy with a key is judged as it stands. Who signed as a workflow can only be looked up
at the public Sigstore, so of the policy without a key these tests show that it refuses what has no such signature.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.paths import ROOT
from support.image_registry import Registry, registry

FOLDER = ROOT / "k8s/signatures"
POLICIES = sorted(FOLDER.glob("*.yaml"))
OURS = "registry.example.com/data/"
LABELS = yaml.safe_load((ROOT / "k8s/namespace.yaml").read_text())["metadata"]["labels"]


@dataclass
class Cluster:
    """A registry, a key with which its images are signed, and Kyverno.

    Attributes:
        images: The registry.
        folder: Where the keys are.
    """

    images: Registry
    folder: Path

    def sign(self, image: str, key: str = "ours") -> None:
        """Sign an image as images-by-key.yaml says."""
        quiet = ["--use-signing-config=false", "--tlog-upload=false", "--yes"]
        self.cosign("sign", "--key", f"{key}.key", *quiet, image)

    def cosign(self, *arguments: str) -> None:
        """Run cosign, whose keys have no password."""
        environ = os.environ | {"COSIGN_PASSWORD": ""}
        subprocess.run(["cosign", *arguments], cwd=self.folder, env=environ, capture_output=True, check=True)

    def policy(self, name: str = "images-by-key.yaml") -> Path:
        """A policy with the registry and the key of this test, as a person writes them into it."""
        text = (FOLDER / name).read_text().replace(OURS, f"{self.images.host}/data/")
        policy: dict[str, Any] = yaml.safe_load(text)
        for attestor in policy["spec"]["attestors"]:
            if "key" in attestor["cosign"]:
                attestor["cosign"]["key"]["data"] = (self.folder / "ours.pub").read_text()
        path = self.folder / name
        path.write_text(yaml.safe_dump(policy))
        return path

    def judge(self, policy: Path, images: dict[str, list[str]], namespace: str = "airflow-dev") -> tuple[bool, str]:
        """Whether a pod may start, and what Kyverno says.

        Args:
            policy: Its file.
            images: By the list of containers.
            namespace: The pod's; that of an environment, or another.
        """
        containers = {
            kind: [{"name": f"c{n}", "image": each} for n, each in enumerate(names)] for kind, names in images.items()
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}, "spec": containers}
        values = {
            "apiVersion": "cli.kyverno.io/v1alpha1",
            "kind": "Values",
            "metadata": {"name": "values"},
            "namespaceSelector": [
                {"name": "airflow-dev", "labels": {key: str(value) for key, value in LABELS.items()}},
                {"name": "other", "labels": {"team": "other"}},
            ],
        }
        for name, content in (("pod.yaml", pod), ("values.yaml", values)):
            (self.folder / name).write_text(yaml.safe_dump(content))
        command = [
            "kyverno",
            "apply",
            str(policy),
            "--resource",
            "pod.yaml",
            "--values-file",
            "values.yaml",
            "--registry",
        ]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    for program in ("cosign", "kyverno"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH: make tools ARGS=image")
    folder = tmp_path_factory.mktemp("signatures")
    with registry(folder) as images:
        made = Cluster(images, folder)
        for key in ("ours", "strange"):
            made.cosign("generate-key-pair", "--output-key-prefix", key)
        yield made


def pushed(cluster: Cluster, name: str, signed_by: str = "") -> str:
    """An image by its digest."""
    image = f"{cluster.images.host}/{name}@{cluster.images.push(f'{name}:1', name)}"
    if signed_by:
        cluster.sign(image, signed_by)
    return image


def test_only_what_was_signed_with_the_key_may_start(cluster: Cluster) -> None:
    policy = cluster.policy()
    signed = pushed(cluster, "data/signed", "ours")
    unsigned, strange = pushed(cluster, "data/unsigned"), pushed(cluster, "data/strange", "strange")
    may_start, said = cluster.judge(policy, {"containers": [signed]})
    assert may_start
    assert "pass: 1" in said, "it was looked at"
    for image in (unsigned, strange):
        for pod in (
            {"containers": [image]},
            {"containers": [signed, image]},
            {"containers": [signed], "initContainers": [image]},
            {"containers": [signed], "ephemeralContainers": [image]},
        ):
            may_start, said = cluster.judge(policy, pod)
            assert not may_start, (pod, said)
            assert "the image is not signed with the key of the releases" in said


def test_what_is_not_ours_or_not_of_an_environment_is_left_alone(cluster: Cluster) -> None:
    policy = cluster.policy()
    unsigned = pushed(cluster, "data/elsewhere")
    assert cluster.judge(policy, {"containers": [pushed(cluster, "others/postgres")]})[0]
    assert not cluster.judge(policy, {"containers": [unsigned]})[0]
    assert cluster.judge(policy, {"containers": [unsigned]}, namespace="other")[0]


def test_who_has_no_identity_of_the_workflow_is_refused(cluster: Cluster) -> None:
    """The key is none of the policy's."""
    signed = pushed(cluster, "data/by-key", "ours")
    for image in (signed, pushed(cluster, "data/by-nobody")):
        may_start, said = cluster.judge(cluster.policy("images.yaml"), {"containers": [image]})
        assert not may_start
        assert "the image is not signed by the workflow release of this repository on main" in said


def test_a_tag_alone_is_refused(cluster: Cluster) -> None:
    """In a cluster the other webhook writes the digest before this one judges."""
    pushed(cluster, "data/tagged", "ours")
    may_start, said = cluster.judge(cluster.policy(), {"containers": [f"{cluster.images.host}/data/tagged:1"]})
    assert not may_start
    assert "does not have a digest" in said


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.name)
def test_both_policies_say_the_same_but_who_signs(policy: Path) -> None:
    content, other = (yaml.safe_load(path.read_text()) for path in (policy, FOLDER / "images.yaml"))
    for each in (content, other):
        each["spec"].pop("attestors")
        each["spec"]["validations"][0].pop("message")
    assert content == other


def test_the_policy_names_the_workflow_that_signs() -> None:
    policy = yaml.safe_load((FOLDER / "images.yaml").read_text())
    (identity,) = policy["spec"]["attestors"][0]["cosign"]["keyless"]["identities"]
    _, _, path = identity["subject"].partition("/data/airflow-platform/")
    file, _, ref = path.partition("@")
    workflow = yaml.safe_load((ROOT / file).read_text())
    assert ref == "refs/heads/main"
    assert workflow[True]["push"] == {"branches": ["main"]}, "YAML reads the key `on` as true"
    assert any(step.get("run") == "make publish" for step in workflow["jobs"]["publish"]["steps"])
    guide = (ROOT / "docs/gitops.md").read_text()
    assert identity["subject"] in guide
    assert identity["issuer"] in guide
