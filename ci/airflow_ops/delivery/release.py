"""`release`: a version of this repository, as changes of files that somebody reviews and commits."""

import re
import subprocess
import tomllib
from datetime import date
from typing import Annotated

import typer
from packaging.version import Version

from airflow_ops.commits import git
from airflow_ops.console import ProblemError, fail, out, styled
from airflow_ops.delivery import changelog
from airflow_ops.delivery.images import check_names
from airflow_ops.paths import ROOT

CHANGELOG = ROOT / "CHANGELOG.md"
VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}")


def release(
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="By default what the commits since the last tag ask for.")
    ] = "",
) -> None:
    """Write a release of this repository into its files: changelog, version, and what staging and prod take from it.

    In CHANGELOG.md what is unreleased becomes the version's section. The version
    goes into pyproject.toml, and into the tags of DAGs and images in values/
    (which lines, says tool.commitizen in pyproject.toml). By default it follows
    from the Conventional Commits since the last tag: a new feature is a new minor
    version. Nothing is committed; a pull request with these changes is reviewed,
    and once it is merged the workflow `release` makes the images and the tag.

    Example: airflow-ops release 0.2.0
    """
    _check_clean()
    present = present_version()
    wanted = version or _next_version(present)
    _check_version(wanted, present)
    # Line ends stay as they are.
    with CHANGELOG.open(newline="") as file:
        text = changelog.with_section(file.read(), wanted, date.today())  # noqa: DTZ011 the day where the user is
    if wanted != present:
        _commitizen("bump", "--version-files-only", "--yes", wanted)
    try:
        check_names(wanted)
    except ProblemError:
        git("checkout", "--quiet", "HEAD", "--", ".")
        raise
    with CHANGELOG.open("w", newline="") as file:
        file.write(text)
    out.print(git("diff", "--stat").rstrip())
    out.print(styled("ok", "green"), f"these files say {wanted} now. Look at `git diff`, then commit them as:")
    out.print(f'git commit --all --message "chore(release): v{wanted}"')


def present_version() -> str:
    """The version of this checkout."""
    return version_in((ROOT / "pyproject.toml").read_text())


def version_in(pyproject: str) -> str:
    """The version in the text of pyproject.toml."""
    return str(tomllib.loads(pyproject)["project"]["version"])


def _check_version(wanted: str, present: str) -> None:
    """Check that a version is a newer one, or the present one before its tag is made.

    Raises:
        ProblemError: It is not.
    """
    if not VERSION.fullmatch(wanted):
        raise fail(f"{wanted!r} is no version.", "Three numbers are needed, such as 0.2.0.", 2)
    tags = git("tag", "--list", f"v{wanted}")
    if tags or Version(wanted) < Version(present):
        reason = f"the tag v{wanted} exists" if tags else f"pyproject.toml says {present}, which is newer"
        raise fail(f"{wanted} cannot be released: {reason}.", "Name a newer version.", 2)


def _next_version(present: str) -> str:
    """The version that the commits since the last tag ask for; the present one if it has no tag yet.

    Raises:
        ProblemError: There is no commit that asks for one.
    """
    if not git("tag", "--list", f"v{present}"):
        return present
    return _commitizen("bump", "--get-next", "--yes").split()[-1]


def _check_clean() -> None:
    """Check that nothing but the release will be in its commit.

    Raises:
        ProblemError: There are changes that are not committed.
    """
    if changed := git("status", "--porcelain", "--untracked-files=no").splitlines():
        raise fail(
            f"{len(changed)} files differ from HEAD, the first of them {changed[0][3:]}.",
            "Commit or take back these changes: the release would be mixed with them.",
            2,
        )


def _commitizen(*arguments: str) -> str:
    """The output of commitizen.

    Raises:
        ProblemError: It fails, for example because no commit asks for a new version.
    """
    program = str(ROOT / ".venv/bin/cz")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise fail(
            f"`cz {' '.join(arguments)}` ended with {done.returncode}: {said[-1] if said else 'it said nothing'}",
            "Name the version: airflow-ops release 0.2.0.",
            2,
        )
    return done.stdout
