"""The dev environment with the Airflow from which the tests of migrations upgrade (tests/e2e/former_version)."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.cluster.local_cluster import LAB_VARIABLE, copy_plugins, load_lab_image, plugins
from airflow_ops.environments.environment import Environment
from airflow_ops.paths import ROOT
from support.ledger import push_dags
from support.live_environment import DagRepository, ops, target

OVERLAY = "e2e-former-version"
LOCK = ROOT / "tests/e2e/former_version/requirements.lock"
BOTH_VERSIONS: dict[str, str | None] = {
    # The library's retry policy, and a DAG with a deadline, need Airflow 3.3.
    "dags/shared/authoring/retry_policy.py": (ROOT / "tests/e2e/dags/retry_policy.py").read_text(),
    "dags/flights/flights_rollup_year.py": None,
}
"""What the DAGs of this repository lack or have instead so that both versions can read them."""
OUTSIDE = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"


def load_image(cluster: Cluster) -> None:
    """Load the former version's image into the lab's node, and build it first where there is none.

    On kind it has to be there: docker build --build-arg AIRFLOW_IMAGE=apache/airflow:3.2.2-python3.11, with `LOCK` in
    the place of image/requirements.lock, and `kind load docker-image`.
    """
    if LAB_VARIABLE in os.environ:
        version = cluster.environment.values["global"]["airflowVersion"]
        load_lab_image(cluster.environment.image, version, [LOCK, *plugins()], copy_plugins)


@contextmanager
def deployed_anew(overlays: tuple[str, ...], folder: Path) -> Iterator[tuple[Cluster, DagRepository]]:
    """The environment from nothing, with the former version, and DAGs that both versions can read.

    Args:
        overlays: Of the newer version.
        folder: For a clone of this repository.
    """
    cluster = connect(Environment.load("dev", [*overlays, OVERLAY]))
    load_image(cluster)
    remove(cluster)
    deployed = ops("deploy", *target(cluster))
    # `deploy` pushes the DAGs of this repository. They need the newer Airflow: this one cannot import the canary, so
    # the smoke test at the end of the deploy does not find it.
    assert "platform_run_canary is not there" in deployed.stderr, deployed.stdout + deployed.stderr
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    repository = DagRepository(folder, cluster, cluster.environment.values["global"]["dagBundle"]["trackingRef"])
    push_dags(cluster, repository, **BOTH_VERSIONS)
    smoke = ops("smoke", *target(cluster))
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    yield cluster, repository
    remove(cluster)


def remove(cluster: Cluster) -> None:
    """Delete the environment with everything in it, and what it has outside of its namespace.

    Helm does not take over what Argo CD has made.
    """
    # Worker pods have two minutes to end.
    cluster.kubectl("delete", "namespace", cluster.namespace, "--ignore-not-found", "--wait", seconds=600)
    found = cluster.kubectl("get", OUTSIDE, "--selector=app.kubernetes.io/part-of=airflow", "--output=name").split()
    if own := [name for name in found if name.partition("/")[2].startswith(f"{cluster.namespace}-")]:
        cluster.kubectl("delete", *own)
