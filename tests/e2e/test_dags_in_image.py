"""DAGs come in the image instead of from Git: an upgrade brings them, and a rollback takes them away again.

Not part of `make e2e`: the image takes a while to build (make e2e-upgrade).
"""

import os
import shutil
from pathlib import Path

import pytest
from airflow_client.client import DAGApi

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.cluster.local_cluster import LAB_VARIABLE, copy_plugins, load_lab_image, plugins
from airflow_ops.colours import live
from airflow_ops.deployment.smoke import CANARY
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.paths import DAGS, ROOT
from support.live_environment import ops, target, wait_for
from support.upgrades import check_requests, go_back, record

OVERLAY = "e2e-dags-in-image"
LOCK = ROOT / "image/requirements.lock"
pytestmark = pytest.mark.upgrade_faults


def load_image(cluster: Cluster) -> None:
    """Load the image into the lab's node.

    A stand-in for --target with-dags of image/Dockerfile: there is no Docker. On kind it has to be there:
    `docker build` with that target, and `kind load docker-image`.
    """
    if LAB_VARIABLE in os.environ:
        files = [LOCK, *plugins(), *sorted(DAGS.rglob("*.py")), *sorted(DAGS.rglob("*.yaml"))]
        load_lab_image(cluster.environment.image, cluster.environment.values["global"]["airflowVersion"], files, _fill)


def _fill(root: Path) -> None:
    copy_plugins(root)
    shutil.copytree(DAGS, root / "opt/airflow/dags", ignore=shutil.ignore_patterns("__pycache__"))


def bundle_version(cluster: Cluster) -> str | None:
    with login(cluster) as client:
        version: str | None = DAGApi(client).get_dag_details(CANARY).bundle_version
    return version


def test_an_upgrade_brings_them_and_a_rollback_takes_them_away(cluster: Cluster) -> None:
    in_image = connect(Environment.load("dev", [*cluster.environment.overlays, OVERLAY]))
    load_image(in_image)
    before = bundle_version(cluster)
    assert before, "a commit"
    done = ops("upgrade", *target(in_image), "--to", in_image.environment.values["global"]["airflowVersion"])
    assert done.returncode == 0, done.stdout + done.stderr
    check_requests(record(cluster))
    assert live.live_colour(cluster) is Colour.GREEN
    wait_for("the DAGs of the image", lambda: bundle_version(cluster) is None, 120)
    smoke = ops("smoke", *target(in_image))
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    go_back(cluster)
    wait_for("the DAGs of Git", lambda: bundle_version(cluster) == before, 120)
