"""`cluster-up` and `cluster-down`: a cluster on this machine, ready for `deploy dev`."""

import os
import shutil
import subprocess
import tempfile
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from airflow_ops import programs
from airflow_ops.console import err, fail, out
from airflow_ops.environments.values import Values, image_name, installed_values
from airflow_ops.paths import PLUGINS, ROOT

KIND_CONFIG = ROOT / "k8s/kind/cluster.yaml"
KIND_NAME = "airflow"
LAB = ROOT.parent / "shared/lab"
LOCK = ROOT / "image/requirements.lock"


class ClusterKind(StrEnum):
    """How a cluster is made on this machine."""

    KIND = "kind"
    LAB = "lab"


def cluster_up(
    cluster: Annotated[ClusterKind, typer.Option(help="kind needs Docker; lab is ../shared/lab.")] = ClusterKind.KIND,
) -> None:
    """Make a cluster on this machine, build the image from the lock and load it. Does nothing that is done already.

    Example: airflow-ops cluster-up --cluster lab
    """
    values = installed_values("dev")
    if cluster is ClusterKind.KIND:
        _kind_up(values)
    else:
        _lab_up(values)


def cluster_down(
    cluster: Annotated[ClusterKind, typer.Option(help="kind needs Docker; lab is ../shared/lab.")] = ClusterKind.KIND,
) -> None:
    """Take the cluster of this machine down with everything in it; other clusters are not touched.

    Example: airflow-ops cluster-down --cluster lab
    """
    if cluster is ClusterKind.KIND:
        _run([programs.find("kind"), "delete", "cluster", "--name", KIND_NAME])
    else:
        _run([str(_lab("lab")), "down"])


def _run(command: list[str]) -> None:
    """Run a program whose own output is the progress.

    Raises:
        ProblemError: It fails.
    """
    err.print(f"$ {' '.join(command)}", highlight=False, soft_wrap=True)
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise fail(f"`{Path(command[0]).name} {command[1]}` ended with {done.returncode}.", "See its own words above.")


def _kind_up(values: Values) -> None:
    docker, kind = programs.find("docker"), programs.find("kind")
    clusters = programs.run("kind", ["get", "clusters"]).stdout.split()
    if KIND_NAME not in clusters:
        _run([kind, "create", "cluster", "--config", str(KIND_CONFIG)])
    image = image_name(values)
    _run([docker, "build", "--file", "image/Dockerfile", "--tag", image, "."])
    _run([kind, "load", "docker-image", image, "--name", KIND_NAME])
    out.print(f"the cluster is up: context kind-{KIND_NAME}. Next: make deploy ENV=dev")


def _lab(program: str) -> Path:
    path = LAB / program
    if not path.exists():
        raise fail(f"{path} does not exist.", "Use `--cluster kind`, or point KUBECONFIG at a cluster of your own.")
    return path


def _lab_up(values: Values) -> None:
    _run([str(_lab("lab")), "up"])
    image = image_name(values)
    archive = _lab_home() / "images" / f"{image.replace('/', '_').replace(':', '_')}.tar"
    mark = archive.with_suffix(".digest")
    digest = _image_digest()
    if not archive.exists() or not mark.exists() or mark.read_text() != digest:
        version = values["global"]["airflowVersion"]
        with tempfile.TemporaryDirectory() as overlay:
            shutil.copytree(
                PLUGINS, Path(overlay) / "opt/airflow/plugins", ignore=shutil.ignore_patterns("__pycache__")
            )
            Path(overlay).chmod(0o755)
            _run([str(_lab("images")), "airflow", version, image, str(LOCK), overlay])
        mark.write_text(digest)
    _run([str(_lab("lab")), "load", str(archive)])
    out.print('the cluster is up: eval "$(../shared/lab/lab env)" points kubectl and helm at it.', highlight=False)
    out.print("Next: make deploy ENV=dev")


def _image_digest() -> str:
    """Of all that the image is made from beside the official one."""
    files = [LOCK, *sorted(PLUGINS.glob("*.py"))]
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _lab_home() -> Path:
    return Path(os.environ.get("LAB_HOME", "/var/cache/airflow-lab"))
