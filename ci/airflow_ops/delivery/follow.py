"""`follow`: let Argo CD bring an environment to another version of this repository."""

import re
from typing import Annotated

import typer
import yaml

from airflow_ops import programs
from airflow_ops.commits import checkout, commit_of, git
from airflow_ops.console import fail, out, styled
from airflow_ops.delivery.images import TAG, check_names
from airflow_ops.environments.environment import FILE, ArgoCD, Environment, read_entries
from airflow_ops.options import EnvironmentName
from airflow_ops.paths import ROOT

MAIN = "origin/main"
"""What Argo CD reads k8s/environments.yaml from, as this clone knows it."""


def follow(
    name: EnvironmentName,
    tag: Annotated[str, typer.Argument(help="A version that the environment before it has followed, such as v0.2.0.")],
) -> None:
    """Let Argo CD bring an environment to a version: write its tag into k8s/environments.yaml.

    Nothing is deployed, and nothing is committed: a pull request with the change
    is reviewed, and Argo CD acts once it is merged. Environments take a version
    in the order of that file: prod takes only what staging has followed on main.

    Example: airflow-ops follow prod v0.2.0
    """
    present = _entry(name)
    _check_tag(tag)
    _check_earlier_environment(name, tag)
    with checkout(f"refs/tags/{tag}") as root:
        check_names(tag.removeprefix("v"), root)
    if present.revision == tag:
        out.print(f"{name} follows {tag} already")
        return
    path = ROOT / FILE
    with path.open(newline="") as file:
        text = with_revision(file.read(), name, tag)
    with path.open("w", newline="") as file:
        file.write(text)
    out.print(styled("ok", "green"), f"{FILE}: {name} follows {tag} now, before {present.revision}. What it changes:")
    out.print(f"airflow-ops diff {name} --ref {present.revision} --to {tag}")


def with_revision(text: str, name: str, tag: str) -> str:
    """The text of k8s/environments.yaml in which an environment follows a tag; everything else stays.

    Raises:
        ProblemError: That cannot be written by changing one line.
    """
    own = re.compile(rf"^{re.escape(name)}:[ \t]*(#.*)?\r?\n(?:[ \t#].*(?:\n|$)|\r?\n)*", re.MULTILINE)
    line = re.compile(r"^(?P<key>[ \t]+revision:[ \t]+)[^\s#&*>|]+(?P<rest>[ \t]*(?:#.*)?\r?)$", re.MULTILINE)
    block = own.search(text)
    changed = line.sub(rf"\g<key>{tag}\g<rest>", block[0]) if block else ""
    after = text[: block.start()] + changed + text[block.end() :] if block else text
    wanted = yaml.safe_load(text)
    wanted[name]["argocd"]["revision"] = tag
    if yaml.safe_load(after) != wanted:
        raise fail(
            f"{FILE}: the line `revision:` of {name} cannot be changed without anything else.",
            f"Write {tag} there yourself, or give `argocd` of {name} a line for each key.",
        )
    return after


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


def _check_tag(tag: str) -> None:
    """Check that a tag is a version of main, and at the origin what it is here.

    Raises:
        ProblemError: It is not.
    """
    if not TAG.fullmatch(tag) or tag not in git("tag", "--list").split():
        raise fail(
            f"{tag!r} is no version of this checkout.",
            "Name one such as v0.2.0; `git fetch --tags` brings new ones.",
            2,
        )
    commit = commit_of(f"refs/tags/{tag}")
    if not _is_ancestor(commit, commit_of(MAIN)):
        raise fail(
            f"{tag} is not in {MAIN}: nobody has reviewed it.", "Name a tag of main; `git fetch` brings main.", 2
        )
    listed = git("ls-remote", "--tags", "origin", f"refs/tags/{tag}", f"refs/tags/{tag}^{{}}").split("\n")
    if commit not in [line.split("\t")[0] for line in listed]:
        raise fail(f"the origin has no tag {tag} of commit {commit[:12]}.", "Argo CD takes it from there: push it.", 2)


def _is_ancestor(earlier: str, later: str) -> bool:
    """Whether a commit is, or comes before, another one.

    Raises:
        ProblemError: This clone is too shallow to say so.
    """
    answer = programs.run("git", ["merge-base", "--is-ancestor", earlier, later], cwd=ROOT)
    if answer.returncode > 1 or git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise fail("this clone does not have all commits.", "Run git fetch --unshallow --tags first.", 2)
    return answer.returncode == 0


def _check_earlier_environment(name: str, tag: str) -> None:
    """Check that the environment before this one follows a tag on main, or has followed it.

    Raises:
        ProblemError: It has not.
    """
    entries = read_entries(ROOT)
    before = [each for each in list(entries)[: list(entries).index(name)] if entries[each].argocd]
    if before and tag not in (followed := revisions_on_main(before[-1])):
        raise fail(
            f"{before[-1]} follows {followed[0] if followed else 'nothing'} on main, and has never followed {tag}.",
            f"First: airflow-ops follow {before[-1]} {tag}, merged and seen to work.",
            2,
        )


def revisions_on_main(name: str) -> list[str]:
    """What an environment follows on main, and then what it followed before, newest first."""
    found = []
    for commit in git("log", "--format=%H", MAIN, "--", str(FILE)).split():
        entry = (yaml.safe_load(git("show", f"{commit}:{FILE}")) or {}).get(name) or {}
        found.append(str((entry.get("argocd") or {}).get("revision", "")))
    return list(filter(None, found))
