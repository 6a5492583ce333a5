"""Commits of this repository: their hashes, and their files in a folder of their own."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from airflow_ops import programs
from airflow_ops.archives import unpack
from airflow_ops.console import fail
from airflow_ops.paths import ROOT


def commit_of(ref: str) -> str:
    """The whole hash of a commit.

    Args:
        ref: A branch, tag or commit.

    Raises:
        ProblemError: There is no such commit.
    """
    return _git(ref, "rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}").decode().strip()


@contextmanager
def checkout(ref: str) -> Iterator[Path]:
    """The repository at a commit, in a temporary folder.

    Args:
        ref: A branch, tag or commit.

    Raises:
        ProblemError: There is no such commit.
    """
    # `git archive` would take --list for an option and HEAD:values for a folder, so it gets the hash of a commit.
    archive = _git(ref, "archive", "--format=tar", commit_of(ref))
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as content:
            unpack(content, Path(folder))
        yield Path(folder)


def git(*arguments: str) -> str:
    """The output of git about this checkout.

    Raises:
        ProblemError: It fails.
    """
    return _output(arguments, f"git {arguments[0]} failed", "Run this in a clone of the repository.", 2).decode()


def _git(ref: str, *arguments: str) -> bytes:
    """The output of git.

    Raises:
        ProblemError: It fails; the ref that was asked for is named.
    """
    fix = "Name a branch, tag or commit of this checkout; `git fetch` brings others."
    return _output(arguments, f"the repository at {ref!r} cannot be read", fix, 1)


def _output(arguments: Sequence[str], problem: str, fix: str, exit_code: int) -> bytes:
    """The output of git about this checkout.

    Raises:
        ProblemError: It fails; the problem is told with what git says.
    """
    done = subprocess.run([programs.find("git"), "-C", str(ROOT), *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        raise fail(f"{problem}: {done.stderr.decode().strip()}.", fix, exit_code)
    return done.stdout
