"""`propose`: a pull request with a release, or with the version that an environment is to follow."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml

from airflow_ops.commits import git
from airflow_ops.console import ProblemError, fail, out, styled
from airflow_ops.delivery.changelog import sections
from airflow_ops.delivery.follow import MAIN
from airflow_ops.delivery.images import TAG
from airflow_ops.delivery.release import VERSION
from airflow_ops.environments import official_chart
from airflow_ops.environments.environment import FILE
from airflow_ops.paths import ROOT

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
LONGEST = 60_000
"""Characters of a text on GitHub, which takes 65,536."""


@dataclass(frozen=True)
class Proposal:
    """What a pull request says.

    Attributes:
        branch: Its branch.
        title: Its title, and the message of its commit.
        body: Its text, in Markdown.
    """

    branch: str
    title: str
    body: str


def propose(
    what: Annotated[str, typer.Argument(help="`release`, or the environment that is to follow a version.")],
    version: Annotated[str, typer.Argument(help="As release or follow take it.")] = "",
) -> None:
    """Open a pull request with a release, or with the version that an environment is to follow.

    It does `airflow-ops release` or `airflow-ops follow` on main as it is at the
    origin, whatever this checkout has, and needs `gh`. The same once more brings
    the pull request up to date. The workflow `propose` runs this.

    Example: airflow-ops propose prod v0.2.0
    """
    _check(what, version)
    # Before anything is written: a commit needs an author.
    git("var", "GIT_COMMITTER_IDENT")
    git("fetch", "--quiet", "--tags", "origin", "main")
    with _main() as root:
        proposal = _release(root, version) if what == "release" else _follow(root, what, version)
        if not _git(root, "status", "--porcelain", "--untracked-files=no"):
            out.print("nothing to propose")
            return
        _git(root, "commit", "--quiet", "--all", "--message", proposal.title)
        # A branch of this name is an earlier proposal of the same.
        _git(root, "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{proposal.branch}")
    _open(proposal)
    out.print(styled("ok", "green"), proposal.title)


def _check(what: str, version: str) -> None:
    """Check the words before main is fetched and checked out; what main says of them is seen there.

    Raises:
        ProblemError: A word is malformed.
    """
    if not NAME.fullmatch(what):
        raise fail(f"{what!r} is neither `release` nor the name of an environment.", f"Name one of {FILE}.", 2)
    wanted = VERSION if what == "release" else TAG
    if (version or what != "release") and not wanted.fullmatch(version):
        raise fail(f"{version!r} is no version.", "Write 0.2.0 after `release`, v0.2.0 after an environment.", 2)


@contextmanager
def _main() -> Iterator[Path]:
    """Main of the origin in a folder of its own, where this environment's programs work."""
    # What a killed command has left.
    git("worktree", "prune")
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as folder:
        root = Path(folder) / "main"
        git("worktree", "add", "--quiet", "--detach", str(root), MAIN)
        try:
            (root / ".venv").symlink_to(ROOT / ".venv")
            yield root
        finally:
            git("worktree", "remove", "--force", str(root))


def _release(root: Path, version: str) -> Proposal:
    before = set(sections((root / "CHANGELOG.md").read_text()))
    _ops(root, "release", *(["--", version] if version else []))
    found = sections((root / "CHANGELOG.md").read_text())
    (new,) = found.keys() - before
    return Proposal(f"propose/release-v{new}", f"chore(release): v{new}", found[new])


def _follow(root: Path, name: str, tag: str) -> Proposal:
    entries = yaml.safe_load((root / FILE).read_text())
    _ops(root, "follow", "--", name, tag)
    before = entries[name]["argocd"]["revision"]
    return Proposal(f"propose/{name}-{tag}", f"feat({name}): follow {tag}", _changes(root, name, before, tag))


def _changes(root: Path, name: str, before: str, tag: str) -> str:
    """What a version changes in an environment, in Markdown."""
    try:
        git("rev-parse", "--verify", "--quiet", f"refs/tags/{before}")
    except ProblemError:
        return f"{name} has followed {before}, which is no tag here, so there is nothing to compare {tag} with."
    if before == tag:
        return ""
    # The other checkouts have no official chart of their own.
    official_chart.ensure(root)
    shown = _ops(root, "diff", name, "--ref", before, "--to", tag, accepted=(0, 1))
    text = shown if len(shown) < LONGEST else f"{shown[:LONGEST]}\n... This is longer than a text on GitHub can be."
    command = f"airflow-ops diff {name} --ref {before} --to {tag}"
    return f"What {tag} changes in {name}, compared with {before} (`{command}`):\n\n````diff\n{text}\n````\n"


def _ops(root: Path, *arguments: str, accepted: tuple[int, ...] = (0,)) -> str:
    """The output of `airflow-ops` of a checkout.

    Raises:
        ProblemError: It ends with another exit code.
    """
    environment = {"PYTHONPATH": str(root / "ci"), "NO_COLOR": "1", "COLUMNS": "120"}
    command = [sys.executable, "-c", "from airflow_ops.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=root, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode not in accepted:
        raise fail(f"airflow-ops {arguments[0]} says: {done.stderr.strip()}", "Correct that on main.", done.returncode)
    return done.stdout.strip()


def _git(root: Path, *arguments: str) -> str:
    return git("-C", str(root), *arguments)


def _open(proposal: Proposal) -> None:
    """Open the pull request of a branch, or write what it says if it is open."""
    common = ["--title", proposal.title, "--body-file", "-"]
    shown = subprocess.run(
        ["gh", "pr", "view", proposal.branch, "--json", "state", "--jq", ".state"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    is_open = shown.stdout.strip() == "OPEN"
    verb = ["edit", proposal.branch] if is_open else ["create", "--head", proposal.branch, "--base", "main"]
    done = subprocess.run(["gh", "pr", *verb, *common], cwd=ROOT, input=proposal.body, text=True, check=False)
    if done.returncode != 0:
        raise fail(
            f"gh could not open the pull request of {proposal.branch}, which is pushed.",
            "Allow GitHub Actions to create pull requests (Settings, Actions, General), and run this again.",
        )
