"""`follow`: let Argo CD bring an environment to another release."""

import re
from typing import Annotated

import typer

from airflow_ops.commits import checkout, commit_of, git
from airflow_ops.console import ProblemError, fail, out, styled
from airflow_ops.environments.environment import FILE, ArgoCD, Environment, read_entries
from airflow_ops.options import EnvironmentName
from airflow_ops.paths import ROOT


def follow(
    name: EnvironmentName,
    tag: Annotated[str, typer.Argument(help="A release that the environment before it in the file follows already.")],
) -> None:
    """Let Argo CD bring an environment to a release: write its tag into k8s/environments.yaml.

    Nothing is deployed, and nothing is committed: a pull request with the change
    is reviewed, and Argo CD acts once it is merged. Environments take a release
    in the order of that file, so prod takes only what staging follows.

    Example: airflow-ops follow prod v0.2.0
    """
    present = _entry(name)
    commit = _commit(tag)
    _check_earlier_environment(name, tag, commit)
    _check_values(name, tag)
    if present.revision == tag:
        out.print(f"{name} follows {tag} already")
        return
    path = ROOT / FILE
    path.write_text(with_revision(path.read_text(), name, tag))
    out.print(styled("ok", "green"), f"{FILE}: {name} follows {tag} now, before {present.revision}. What it changes:")
    out.print(f"airflow-ops diff {name} --ref {present.revision} --to {tag}")


def with_revision(text: str, name: str, tag: str) -> str:
    """The text of k8s/environments.yaml in which an environment follows a tag; its comments stay.

    Raises:
        ProblemError: The line is not where it is expected.
    """
    own = re.compile(rf"^{re.escape(name)}:\n(?:[ \t#].*\n|\n)*", re.MULTILINE)
    line = re.compile(r"^(\s+revision: ).*$", re.MULTILINE)
    block = own.search(text)
    changed, count = line.subn(rf"\g<1>{tag}", block[0]) if block else ("", 0)
    if block is None or count != 1:
        raise fail(
            f"{FILE}: the line `revision:` of {name} was not found.",
            f"Write {tag} there yourself, or give `argocd` of {name} a line for each key.",
        )
    return text[: block.start()] + changed + text[block.end() :]


def _entry(name: str) -> ArgoCD:
    """How Argo CD brings an environment.

    Raises:
        ProblemError: It does not, or the environment is to stay as it is.
    """
    environment = Environment.load(name)
    entry = read_entries(ROOT)[environment.name].argocd
    if entry is None:
        raise fail(
            f"Argo CD does not bring {name}: it has no `argocd` in {FILE}.",
            f"Deploy it with airflow-ops deploy {name}, or give it one (docs/gitops.md).",
            2,
        )
    if entry.frozen:
        raise fail(f"{name} is frozen in {FILE}.", "Take `frozen: true` away first.", 2)
    return entry


def _commit(tag: str) -> str:
    """The commit of a tag.

    Raises:
        ProblemError: There is no such tag in this checkout.
    """
    if tag not in git("tag", "--list").split():
        raise fail(f"there is no tag {tag!r} in this checkout.", "Name a tag; `git fetch --tags` brings new ones.", 2)
    return commit_of(f"refs/tags/{tag}")


def _check_earlier_environment(name: str, tag: str, commit: str) -> None:
    """Check that the environment before this one has the release, or a later one, already.

    Raises:
        ProblemError: It has not.
    """
    entries = read_entries(ROOT)
    before = [each for each in list(entries)[: list(entries).index(name)] if entries[each].argocd]
    if not before:
        return
    entry = entries[before[-1]].argocd
    assert entry
    if not _contains(entry.revision, commit):
        raise fail(
            f"{before[-1]} follows {entry.revision}, which does not contain {tag}: it has not run there.",
            f"First: airflow-ops follow {before[-1]} {tag}.",
            2,
        )


def _contains(revision: str, commit: str) -> bool:
    """Whether a branch or tag contains a commit; one that this checkout does not have contains none."""
    try:
        return git("merge-base", commit, commit_of(revision)).strip() == commit
    except ProblemError:
        return False


def _check_values(name: str, tag: str) -> None:
    """Check that at its tag a release says that DAGs come from that tag.

    Raises:
        ProblemError: They would come from another one.
    """
    with checkout(tag) as root:
        bundle = Environment.load(name, root=root).values["global"]["dagBundle"]
    if bundle["kind"] == "git" and bundle["trackingRef"] != tag:
        raise fail(
            f"at {tag} global.dagBundle.trackingRef of {name} is {bundle['trackingRef']}: DAGs would come from there.",
            "Make releases with airflow-ops release, which writes it.",
            2,
        )
