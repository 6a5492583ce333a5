"""The image of the Jobs that run airflow-ops in the cluster (image/operations), on the lab cluster's node."""

import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.environments import official_chart
from airflow_ops.paths import ROOT

LOCK = ROOT / "image/operations/requirements.lock"


def load_operations_image(cluster: Cluster) -> None:
    """Load the image into the lab's node, and build it first where it is not that of the lock.

    A stand-in for image/operations/Dockerfile, made of the same lock, programs and chart: there is no Docker. On kind
    it has to be there: `docker build` as that file says, and `kind load docker-image`.
    """
    lab = os.environ.get("AIRFLOW_LAB")
    if not lab:
        return
    image = cluster.environment.values["platform"]["operations"]["image"]
    archive = Path(os.environ["KUBECONFIG"]).parent / "images" / f"{image.replace('/', '_').replace(':', '_')}.tar"
    mark = archive.with_suffix(".digest")
    digest = sha256(LOCK.read_bytes()).hexdigest()
    if not archive.exists() or not mark.exists() or mark.read_text() != digest:
        with tempfile.TemporaryDirectory() as overlay:
            _fill(Path(overlay))
            subprocess.run([f"{lab}/images", "airflow", "operations", image, str(LOCK), overlay], check=True)
        mark.write_text(digest)
    subprocess.run([f"{lab}/lab", "load", str(archive)], check=True)


def _fill(root: Path) -> None:
    """Put what the Dockerfile copies into a folder that is copied over the image's root."""
    root.chmod(0o755)
    for folder in ("usr/local/bin", "opt/operations"):
        (root / folder).mkdir(parents=True)
    for program in ("helm", "kubectl"):
        shutil.copy(Path(programs.find(program)).resolve(), root / "usr/local/bin" / program)
    shutil.copy(LOCK, root / "opt/operations/requirements.lock")
    shutil.copy(official_chart.ensure(), root / "opt/operations/airflow.tgz")
