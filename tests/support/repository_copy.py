"""This repository in a folder of its own, with a history of its own."""

import atexit
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from airflow_ops.paths import ROOT
from support.small_checkout import Checkout, commandline_environment


def copy_repository(folder: Path) -> Checkout:
    """Every file that belongs to this repository, as one commit on main, which an origin has too.

    Args:
        folder: An empty folder.
    """
    shutil.copytree(_template(), folder, symlinks=True, dirs_exist_ok=True)
    root = folder / "repository"
    made = Checkout(root, b"", commandline_environment(root, folder))
    made.git("remote", "add", "origin", str(folder / "origin.git"))
    made.git("fetch", "--quiet", "origin")
    return made


@cache
def _template() -> Path:
    """A folder with such a repository and its origin, made once in each process."""
    folder = Path(tempfile.mkdtemp(prefix="airflow-ops-repository-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    root = folder / "repository"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        # What was deleted and not committed yet is listed too.
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name, follow_symlinks=False)
    (root / ".venv").symlink_to(ROOT / ".venv")
    made = Checkout(root, b"", commandline_environment(root, folder))
    made.git("init", "--quiet")
    (root / ".git/info/exclude").write_text("/.venv\n")
    made.commit("feat(base): begin")
    made.git("gc", "--quiet")
    made.git("clone", "--quiet", "--bare", str(root), str(folder / "origin.git"))
    return folder
