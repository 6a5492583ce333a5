"""A Git repository that a real Argo CD and the Git mirror of dev both follow, and what Argo CD says about it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.local_cluster import LAB_VARIABLE
from airflow_ops.environments.environment import FILE
from airflow_ops.environments.values import merge
from airflow_ops.manifests.objects import Colour
from airflow_ops.paths import ROOT
from support.live_environment import wait_for

NODE = "10.89.0.1"
"""Address of the lab's node, where pods reach the Git server."""
OVERLAY = "values/overlays/e2e-argocd.yaml"
NAMED = "https://git.example.com/data/airflow-platform.git"
"""The repository's address in k8s/argocd."""
APPLICATION = "airflow-dev"
ENDED = ("Succeeded", "Failed", "Error")


@dataclass
class GitOps:
    """The repository and the Application that comes from it.

    Attributes:
        folder: A clone, from which commits are pushed.
        origin: The repository.
        cluster: Dev.
        own: The values that it needs to be brought from there.
    """

    folder: Path
    origin: Path
    cluster: Cluster
    own: Mapping[str, Any]

    def _git(self, *words: str) -> str:
        identity = ["-c", "user.name=e2e", "-c", "user.email=e2e@example.com"]
        done = subprocess.run(["git", *identity, *words], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str, files: Mapping[str, str | None] | None = None, tags: Sequence[str] = ()) -> str:
        """Commit files, None to take one away, and push them to main, with tags; gives the commit."""
        for path, text in (files or {}).items():
            if text is None:
                (self.folder / path).unlink()
            else:
                (self.folder / path).write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        return self._push(tags)

    def _push(self, tags: Sequence[str] = ()) -> str:
        refs = ["heads/main", *(f"tags/{tag}" for tag in tags)]
        self._git("push", "--quiet", "--atomic", str(self.origin), *(f"HEAD:refs/{ref}" for ref in refs))
        return self._git("rev-parse", "HEAD")

    def _overlay(self, change: Mapping[str, Any]) -> dict[str, str]:
        """The file of dev's own values, with a change."""
        return {OVERLAY: yaml.safe_dump(merge(yaml.safe_load((self.folder / OVERLAY).read_text()), change))}

    def change(self, message: str, change: Mapping[str, Any]) -> str:
        """Commit other values of dev."""
        return self.commit(message, self._overlay(change))

    def release(self, tag: str, dags: Mapping[str, str | None]) -> str:
        """Commit DAGs, and the tag of this commit as that which dev's DAGs come from."""
        overlay = self._overlay({"global": {"dagBundle": {"trackingRef": tag}}})
        return self.commit(f"feat(dags): {tag}", {**overlay, **dags}, [tag])

    def revert(self) -> str:
        """Commit that the last commit is taken back."""
        self._git("revert", "--no-edit", "HEAD")
        return self._push()

    def activate(self, colour: Colour) -> str:
        """Commit the colour that is to be active."""
        entries = merge(
            yaml.safe_load((self.folder / FILE).read_text()), {"dev": {"argocd": {"activeColour": str(colour)}}}
        )
        return self.commit(f"feat: promote {colour}", {str(FILE): yaml.safe_dump(entries)})

    def follow(self, message: str, values: Mapping[str, Any]) -> str:
        """Commit all values that dev has of its own."""
        return self.commit(message, {OVERLAY: yaml.safe_dump(merge(self.own, values))})

    def application(self) -> dict[str, Any]:
        """The Application as it is; empty if there is none."""
        found = self.cluster.kubectl(
            "get", "application", APPLICATION, "--namespace", "argocd", "--ignore-not-found", "--output", "json"
        )
        return dict(json.loads(found)) if found else {}

    def status(self) -> dict[str, Any]:
        return dict(self.application().get("status", {}))

    def synced(self, commit: str, seconds: float = 900) -> dict[str, Any]:
        """Wait until Argo CD has ended the sync of a commit; gives the operation."""

        def ended() -> dict[str, Any]:
            operation = self.status().get("operationState", {})
            revision = operation.get("syncResult", {}).get("revision") or operation.get("operation", {}).get(
                "sync", {}
            ).get("revision")
            return operation if revision == commit and operation.get("phase") in ENDED else {}

        return wait_for(f"the sync of {commit[:10]}", ended, seconds)

    def is_quiet(self) -> bool:
        """Whether the Application is Synced and Healthy."""
        status = self.status()
        return (status["sync"]["status"], status["health"]["status"]) == ("Synced", "Healthy")

    def said(self, commit: str) -> str:
        """What the Job after the sync of a commit printed."""
        return " ".join(self.cluster.kubectl("logs", f"job/airflow-operations-reconcile-{commit[:10]}").split())


def _lab(*words: str) -> list[str]:
    return [os.environ[LAB_VARIABLE] + "/lab", "exec", *words]


@contextmanager
def served(
    cluster: Cluster, folder: Path, values: Mapping[str, Any], dags: Mapping[str, str | None]
) -> Iterator[GitOps]:
    """This checkout's commit in a repository of its own, with dev as the only environment that Argo CD brings.

    Args:
        cluster: Dev, with the overlays that it keeps.
        folder: An empty folder.
        values: What it has over them at first.
        dags: Files that differ from this checkout's at first, None where there is none.
    """
    origin, clone = folder / "platform.git", folder / "clone"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin)], check=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    daemon = ["git", "daemon", f"--base-path={folder}", "--export-all", f"--listen={NODE}", "--reuseaddr", str(folder)]
    own = {
        "platform": {
            "gitOrigin": {"enabled": False},
            "gitMirror": {"origin": f"git://{NODE}/{origin.name}"},
            "networkPolicy": {"originAddresses": [{"cidr": f"{NODE}/32", "ports": [9418]}]},
        }
    }
    entry = {
        "contexts": list(cluster.environment.contexts),
        "overlays": [*cluster.environment.overlays, Path(OVERLAY).stem],
        "argocd": {"cluster": "in-cluster", "revision": "main"},
    }
    files: dict[str, str | None] = {
        str(FILE): yaml.safe_dump({"dev": entry}),
        OVERLAY: yaml.safe_dump(merge(own, values)),
        **dags,
        **{
            str(path.relative_to(ROOT)): path.read_text().replace(NAMED, f"file://{origin}")
            for path in (ROOT / "k8s/argocd").glob("*.yaml")
        },
    }
    with subprocess.Popen(_lab(*daemon), start_new_session=True) as process:
        try:
            gitops = GitOps(clone, origin, cluster, own)
            gitops.commit("test: dev by Argo CD", files)
            yield gitops
        finally:
            # The server is a child of the program that enters the cluster's network.
            os.killpg(process.pid, signal.SIGTERM)
