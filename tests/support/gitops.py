"""A Git repository that a real Argo CD and the Git mirror of dev both follow, and what Argo CD says about it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.local_cluster import LAB_VARIABLE
from airflow_ops.environments.values import merge
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
        values: What the overlay of these tests says, over which each change is laid.
    """

    folder: Path
    origin: Path
    cluster: Cluster
    values: dict[str, Any] = field(default_factory=dict)

    def _git(self, *words: str) -> str:
        identity = ["-c", "user.name=e2e", "-c", "user.email=e2e@example.com"]
        done = subprocess.run(["git", *identity, *words], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str, files: Mapping[str, str] | None = None) -> str:
        """Commit files and push them to main; gives the commit."""
        for path, text in (files or {}).items():
            (self.folder / path).write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        self._git("push", "--quiet", str(self.origin), "HEAD:refs/heads/main")
        return self._git("rev-parse", "HEAD")

    def change(self, message: str, change: Mapping[str, Any], *, keep: bool = True) -> str:
        """Commit other values of dev; unless `keep`, the next change does not have them any more."""
        values = merge(self.values, change)
        if keep:
            self.values = values
        return self.commit(message, {OVERLAY: yaml.safe_dump(values)})

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
def served(cluster: Cluster, folder: Path) -> Iterator[GitOps]:
    """This checkout's commit in a repository of its own, with dev as the only environment that Argo CD brings.

    Args:
        cluster: Dev, with the overlays that it is to have.
        folder: An empty folder.
    """
    origin, clone = folder / "platform.git", folder / "clone"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin)], check=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    daemon = ["git", "daemon", f"--base-path={folder}", "--export-all", f"--listen={NODE}", "--reuseaddr", str(folder)]
    gitops = GitOps(clone, origin, cluster)
    gitops.values = {
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
    files = {
        "k8s/environments.yaml": yaml.safe_dump({"dev": entry}),
        OVERLAY: yaml.safe_dump(gitops.values),
        **{
            str(path.relative_to(ROOT)): path.read_text().replace(NAMED, f"file://{origin}")
            for path in (ROOT / "k8s/argocd").glob("*.yaml")
        },
    }
    with subprocess.Popen(_lab(*daemon), start_new_session=True) as process:
        try:
            gitops.commit("test: dev by Argo CD", files)
            yield gitops
        finally:
            # The server is a child of the program that enters the cluster's network.
            os.killpg(process.pid, signal.SIGTERM)
