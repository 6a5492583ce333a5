"""A small checkout that the command works on as on this one, with charts that Helm renders in no time."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from airflow_ops.environments.values import merge
from airflow_ops.paths import ROOT

OFFICIAL = Path(__file__).parent / "fixtures/official"
CHECKOUT = Path(__file__).parent / "fixtures/checkout"


def _official_archive() -> bytes:
    """The archive of a small chart with the name of the official one, packed as `helm package` does."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(OFFICIAL, "airflow")
    return packed.getvalue()


class _Tidy(yaml.SafeDumper):
    """Writes YAML that yamllint likes, with every text quoted so that Helm reads a text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Tidy.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'"))


@dataclass
class Checkout:
    """A checkout in a folder of its own.

    Attributes:
        root: Its root.
        archive: The small chart with the name of the official one, as published.
        environ: What the command runs with.
    """

    root: Path
    archive: bytes
    environ: dict[str, str]

    @property
    def cached(self) -> Path:
        """The archive in Helm's cache."""
        return Path(self.environ["HELM_REPOSITORY_CACHE"]) / "airflow-9.9.9.tgz"

    @property
    def placed(self) -> Path:
        """The archive where Helm looks for it."""
        return self.root / "charts/airflow/charts/airflow-9.9.9.tgz"

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """`airflow-ops ARGUMENTS` of this checkout."""
        return subprocess.run(
            [sys.executable, "-c", "from airflow_ops.cli import main; main()", *arguments],
            cwd=self.root,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def set(self, file: str, values: dict[str, Any]) -> None:
        """Lay values over a values file, as Helm would over the layer below."""
        path = self.root / "values" / file
        content = merge(yaml.safe_load(path.read_text()) or {}, values)
        path.write_text(yaml.dump(content, Dumper=_Tidy, sort_keys=False, width=150))

    def add_environment(self, name: str, values: str) -> None:
        """A second environment, with these values as YAML."""
        (self.root / f"values/{name}.yaml").write_text(values)
        with (self.root / "k8s/environments.yaml").open("a") as environments:
            environments.write(f"{name}:\n  contexts: []\n  overlays: []\n")

    def add_objects(self, *objects: dict[str, Any]) -> None:
        """Have charts/platform render these objects too."""
        self.set("base.yaml", {"platform": {"objects": list(objects)}})

    def write_dag(self, arguments: str, dag_id: str = "load") -> None:
        """Write a DAG whose one task, `run`, has these arguments."""
        (self.root / f"dags/{dag_id}.py").write_text(
            "from airflow.sdk import dag, task\n"
            "from kubernetes.client import models as k8s\n\n\n"
            "@dag(schedule=None)\n"
            f"def {dag_id}():\n"
            f"    @task({arguments})\n"
            "    def run():\n"
            "        pass\n\n"
            "    run()\n\n\n"
            f"{dag_id}()\n"
        )

    def changed(self) -> str:
        """The files that differ from the last commit, as `git status` lists them."""
        return subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=self.root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def commit(self, message: str) -> None:
        """Commit everything."""
        self.git("add", "--all", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def git(self, *arguments: str) -> None:
        """Run git here, as somebody."""
        who = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True)


def commandline_environment(root: Path, home: Path) -> dict[str, str]:
    """Variables with which `airflow-ops` is that of a checkout, and knows nothing of the user's cluster.

    Args:
        root: The checkout.
        home: The user's folder.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "HELM", "KUBE", "XDG"))}
    return kept | {
        "HELM_REPOSITORY_CACHE": str(home / "helm"),
        "HOME": str(home),
        "PYTHONPATH": str(root / "ci"),
        "COLUMNS": "200",
    }


def make_checkout(folder: Path) -> Checkout:
    """Lay the small checkout out in a folder."""
    root = folder / "checkout"
    shutil.copytree(CHECKOUT, root)
    # With what is compiled already: each call of the command is a process of its own.
    unfinished = shutil.ignore_patterns("*.pyc.*")
    shutil.copytree(ROOT / "ci/airflow_ops", root / "ci/airflow_ops", ignore=unfinished)
    for name in (".yamllint.yaml",):
        shutil.copy(ROOT / name, root / name)
    archive = _official_archive()
    chart = root / "charts/airflow/Chart.yaml"
    chart.write_text(chart.read_text().replace("DIGEST", hashlib.sha256(archive).hexdigest()))
    made = Checkout(root, archive, commandline_environment(root, folder))
    made.cached.parent.mkdir()
    made.cached.write_bytes(archive)
    return made
