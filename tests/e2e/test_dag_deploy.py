"""DAGs that are published and work stay; those that do not are taken back, and no run is lost."""

import os
import subprocess
from pathlib import Path

from airflow_ops.cluster.connection import Cluster
from airflow_ops.commits import commit_of
from airflow_ops.deployment.dag_push import publish, published
from airflow_ops.deployment.smoke import CANARY
from airflow_ops.paths import ROOT
from support.live_environment import Airflow, ops, target, wait_for

BROKEN = "dags/platform/platform_check_health.py"
ONLY_HERE = """
import os

if "KUBERNETES_SERVICE_HOST" in os.environ:
    raise ImportError("made to fail there")
"""
"""At the end of a DAG file: it can be imported where `dags lint` runs, and not in the cluster."""


def commit_beside_head(index: Path, files: dict[str, str]) -> str:
    """A commit on top of HEAD that no branch has; the working tree and its index stay as they are."""
    identity = ["-c", "user.name=e2e", "-c", "user.email=e2e@example.com"]
    environment = {**os.environ, "GIT_INDEX_FILE": str(index)}

    def git(*words: str, stdin: str = "") -> str:
        command = ["git", *identity, *words]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("read-tree", "HEAD")
    for path, text in files.items():
        blob = git("hash-object", "-w", "--stdin", stdin=text)
        git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    return git("commit-tree", git("write-tree"), "-p", "HEAD", "-m", "test: beside HEAD")


def deploy_dags(cluster: Cluster, ref: str) -> subprocess.CompletedProcess[str]:
    name, *overlays = target(cluster)
    return ops("deploy-dags", name, ref, *overlays)


def test_dags_that_cannot_be_imported_there_are_taken_back(cluster: Cluster, airflow: Airflow, tmp_path: Path) -> None:
    head = commit_of("HEAD")
    publish(cluster, head, published(cluster))
    wait_for("HEAD", lambda: airflow.serves(CANARY, head), 120)
    airflow.unpause(CANARY)
    run = airflow.trigger(CANARY)
    broken = commit_beside_head(tmp_path / "index", {BROKEN: (ROOT / BROKEN).read_text() + ONLY_HERE})
    done = deploy_dags(cluster, broken)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1, done.stdout + said
    assert "platform_check_health.py cannot be imported there" in said
    assert f"Airflow has the DAGs of {head[:12]} again" in said
    assert published(cluster) == head
    assert airflow.wait_for_end(CANARY, run) == "success", "it keeps the commit that it began with"


def test_dags_that_work_are_verified(cluster: Cluster, airflow: Airflow, tmp_path: Path) -> None:
    other = commit_beside_head(tmp_path / "index", {})
    done = deploy_dags(cluster, other)
    assert done.returncode == 0, done.stderr
    assert f"of {other[:12]} are verified" in " ".join(done.stdout.split())
    assert airflow.serves(CANARY, other)
    again = deploy_dags(cluster, other)
    assert "already" in again.stdout
    assert deploy_dags(cluster, "HEAD").returncode == 0
