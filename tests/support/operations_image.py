"""The image of the Jobs that run airflow-ops in the cluster (image/operations), on the lab cluster's node."""

import os
import shutil
from pathlib import Path

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.local_cluster import LAB_VARIABLE, load_lab_image
from airflow_ops.environments import official_chart
from airflow_ops.paths import ROOT

LOCK = ROOT / "image/operations/requirements.lock"


def load_operations_image(cluster: Cluster) -> None:
    """Load the image into the lab's node, and build it first where it is not that of the lock.

    A stand-in for image/operations/Dockerfile, made of the same lock, programs and chart: there is no Docker. On kind
    it has to be there: `docker build` as that file says, and `kind load docker-image`.
    """
    if LAB_VARIABLE in os.environ:
        image = cluster.environment.values["platform"]["operations"]["image"]
        load_lab_image(image, "operations", [LOCK, official_chart.ensure()], _fill)


def _fill(root: Path) -> None:
    """Put what the Dockerfile copies into a folder that is copied over the image's root."""
    for folder in ("usr/local/bin", "opt/operations"):
        (root / folder).mkdir(parents=True)
    for program in ("helm", "kubectl"):
        shutil.copy(Path(programs.find(program)).resolve(), root / "usr/local/bin" / program)
    shutil.copy(LOCK, root / "opt/operations/requirements.lock")
    shutil.copy(official_chart.ensure(), root / "opt/operations/airflow.tgz")
