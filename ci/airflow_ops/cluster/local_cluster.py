"""`cluster-up` and `cluster-down`: a cluster on this machine, ready for `deploy dev`."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from airflow_ops import programs
from airflow_ops.console import fail, out
from airflow_ops.environments.environment import Environment
from airflow_ops.paths import PLUGINS, ROOT

KIND_CONFIG = ROOT / "k8s/kind/cluster.yaml"
KIND_NAME = "airflow"
LAB_VARIABLE = "AIRFLOW_LAB"
"""The folder of the programs `lab` and `images`, which make a cluster where there is no container engine."""
LOCK = ROOT / "image/requirements.lock"


WHICH = f"kind needs Docker; lab needs none, and its programs in the folder {LAB_VARIABLE}."


class ClusterKind(StrEnum):
    """How a cluster is made on this machine."""

    KIND = "kind"
    LAB = "lab"


def cluster_up(
    cluster: Annotated[ClusterKind, typer.Option(help=WHICH)] = ClusterKind.KIND,
) -> None:
    """Make a cluster on this machine, build the image from the lock and load it. Skips whatever is done already.

    Example: airflow-ops cluster-up --cluster lab
    """
    environment = Environment.load("dev")
    if cluster is ClusterKind.KIND:
        _kind_up(environment)
    else:
        _lab_up(environment)


def cluster_down(
    cluster: Annotated[ClusterKind, typer.Option(help=WHICH)] = ClusterKind.KIND,
) -> None:
    """Delete the cluster of this machine with everything in it; other clusters are not touched.

    Example: airflow-ops cluster-down --cluster lab
    """
    if cluster is ClusterKind.KIND:
        programs.show([programs.find("kind"), "delete", "cluster", "--name", KIND_NAME])
    else:
        programs.show([str(_lab("lab")), "down"])


def _kind_up(environment: Environment) -> None:
    docker, kind = programs.find("docker"), programs.find("kind")
    clusters = programs.run("kind", ["get", "clusters"]).stdout.split()
    if KIND_NAME not in clusters:
        programs.show([kind, "create", "cluster", "--config", str(KIND_CONFIG)])
    image = environment.image
    programs.show([docker, "build", "--file", "image/Dockerfile", "--tag", image, "."])
    programs.show([kind, "load", "docker-image", image, "--name", KIND_NAME])
    out.print(f"the cluster is up: context kind-{KIND_NAME}. Next: make deploy ENV=dev")


def _lab(program: str) -> Path:
    folder = os.environ.get(LAB_VARIABLE)
    if not folder:
        raise fail(
            f"{LAB_VARIABLE} is not set: it names the folder of the programs that make the cluster `lab`.",
            "Set it, use `--cluster kind`, or point KUBECONFIG at a cluster of your own.",
        )
    path = Path(folder).absolute() / program
    if not path.exists():
        raise fail(f"{path} does not exist.", f"Point {LAB_VARIABLE} at the folder that holds it.")
    return path


def _lab_up(environment: Environment) -> None:
    programs.show([str(_lab("lab")), "up"])
    load_lab_image(environment.image, environment.values["global"]["airflowVersion"], [LOCK, *plugins()], copy_plugins)
    out.print(f'the cluster is up: eval "$({_lab("lab")} env)" points kubectl and helm at it.')
    out.print("Next: make deploy ENV=dev")


def load_lab_image(image: str, version: str, files: Sequence[Path], fill: Callable[[Path], None]) -> None:
    """Load an image into the lab's node, and build it first where what it is made of has changed.

    Args:
        image: Its name.
        version: The version that it is built for.
        files: What it is made of; the first is the lock of its packages.
        fill: Puts what else it holds into a folder that is copied over its root.

    Raises:
        ProblemError: The lab is not there, or one of its programs fails.
    """
    archive = _lab_home() / "images" / f"{image.replace('/', '_').replace(':', '_')}.tar"
    mark = archive.with_suffix(".digest")
    digest = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    if not archive.exists() or not mark.exists() or mark.read_text() != digest:
        with tempfile.TemporaryDirectory() as overlay:
            fill(Path(overlay))
            Path(overlay).chmod(0o755)
            programs.show([str(_lab("images")), "airflow", version, image, str(files[0]), overlay])
        mark.write_text(digest)
    programs.show([str(_lab("lab")), "load", str(archive)])


def plugins() -> list[Path]:
    """The files of Airflow's plugins, which are in its image."""
    return sorted(PLUGINS.glob("*.py"))


def copy_plugins(root: Path) -> None:
    """Put Airflow's plugins where its image has them.

    Args:
        root: A folder that is copied over the image's root.
    """
    shutil.copytree(PLUGINS, root / "opt/airflow/plugins", ignore=shutil.ignore_patterns("__pycache__"))


def _lab_home() -> Path:
    """The folder in which the lab keeps its images: that of its kubeconfig, whose path `lab env` prints.

    Raises:
        ProblemError: It prints none.
    """
    printed = subprocess.run([_lab("lab"), "env"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\bKUBECONFIG=(\S+)", printed)
    if not found:
        raise fail(f"`{_lab('lab')} env` does not print KUBECONFIG.", f"Point {LAB_VARIABLE} at the folder of the lab.")
    return Path(found[1]).parent
