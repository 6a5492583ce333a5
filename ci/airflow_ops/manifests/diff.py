"""`airflow-ops diff`: what the working tree changes compared with another commit or the live cluster."""

import copy
import difflib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from airflow_ops.cluster.connection import connect
from airflow_ops.commits import checkout
from airflow_ops.console import ProblemError, fail, out, progress, styled
from airflow_ops.environments import official_chart
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests import live_objects
from airflow_ops.manifests.objects import Colour, Manifest, Object, active_colour, dump, releases, render_environment
from airflow_ops.options import EnvironmentName, TrialOverlays
from airflow_ops.paths import ROOT

Key = tuple[str, str, str, str]
"""Group, kind, namespace and name, which identify an object independently of its API version and release."""


def _key(manifest: Manifest) -> Key:
    return (manifest.api_version.rpartition("/")[0], manifest.kind, manifest.namespace, manifest.name)


@dataclass(frozen=True)
class Change:
    """One object that differs.

    Attributes:
        identity: The object's name in a heading.
        before: The present object; None if it would be added.
        after: The object in the working tree; None if it would be removed.
    """

    identity: str
    before: Object | None
    after: Object | None

    @property
    def word(self) -> str:
        """Whether the object is added, removed or changed."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"

    def lines(self) -> list[str]:
        """A unified diff with masked Secret data."""
        before, after = masked(self.before, self.after)
        old, new = (dump(side, sort_keys=True).splitlines() if side is not None else [] for side in (before, after))
        return list(difflib.unified_diff(old, new, f"before/{self.identity}", f"after/{self.identity}", lineterm=""))


def masked(before: Object | None, after: Object | None) -> tuple[Object | None, Object | None]:
    """Both sides without the content of a Secret, but with a mark where a key's content differs."""
    sides = [copy.deepcopy(side) for side in (before, after)]
    if not any(side is not None and side.get("kind") == "Secret" for side in sides):
        return before, after
    for part in ("data", "stringData"):
        contents = [(side or {}).get(part) or {} for side in (before, after)]
        for side, mark in zip(sides, ("before", "after"), strict=True):
            for key in (side or {}).get(part) or {}:
                same = contents[0].get(key) == contents[1].get(key)
                (side or {})[part][key] = "***" if same else f"*** ({mark})"
    return sides[0], sides[1]


def compare(before: Iterable[Manifest], after: Iterable[Manifest]) -> list[Change]:
    """The objects that differ, by kind and name.

    Args:
        before: The present objects.
        after: The objects in the working tree.
    """
    sides: list[dict[Key, Manifest]] = [{_key(m): m for m in side} for side in (before, after)]
    changes = []
    for key in sorted(sides[0].keys() | sides[1].keys(), key=lambda k: (k[1], k[3], k)):
        old, new = sides[0].get(key), sides[1].get(key)
        identity = (new or old or next(iter(sides[0].values()))).identity
        change = Change(identity, old.object if old else None, new.object if new else None)
        if change.before != change.after:
            changes.append(change)
    return changes


def _copy_official_chart(root: Path) -> None:
    """Copy the official chart to the other checkout if both pin the same; rendering checks its digest."""
    pin = official_chart.read_pin(root)
    own = ROOT / "charts/airflow/charts" / pin.file
    if own.exists():
        pin.folder.mkdir(exist_ok=True)
        shutil.copy(own, pin.path)


def _print(changes: list[Change]) -> None:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for change in changes:
        out.print(styled(f"{change.word} {change.identity}", "bold"))
        for line in change.lines():
            out.print(line, style=colours.get(line[:1]), soft_wrap=True)
    counts = ", ".join(f"{sum(c.word == word for c in changes)} {word}" for word in ("changed", "added", "removed"))
    out.print(counts)


def diff(
    name: EnvironmentName,
    ref: Annotated[str, typer.Option(help="Compare with the repository at this branch, tag or commit.")] = "",
    to: Annotated[str, typer.Option(help="Compare this branch, tag or commit with --ref, not the working tree.")] = "",
    with_live: Annotated[bool, typer.Option("--live", help="Compare with the cluster of the current context.")] = False,
    colour: Annotated[Colour | None, typer.Option(help="Colour of Airflow; by default global.activeColour.")] = None,
    overlay: TrialOverlays = None,
) -> None:
    """Show what the working tree would change in an environment; Secret data is masked.

    With --to another commit takes the place of the working tree. Exit 0 if
    nothing differs, 1 if something does, 2 on an error.

    Example: airflow-ops diff prod --ref v0.1.0 --to v0.2.0
    """
    try:
        if bool(ref) == with_live or (to and not ref):
            raise fail("exactly one of --ref and --live is needed.", "Give either --ref, perhaps with --to, or --live.")
        with progress() as bar:
            bar.add_task("comparing", total=None)
            environment = Environment.load(name, overlay)
            colour = colour or active_colour(environment)
            after = _at(to, environment, overlay, colour) if to else render_environment(environment, colour)
            before = _at(ref, environment, overlay, colour) if ref else []
            changes = compare(before, after) if ref else _against_cluster(environment, colour, after)
    except ProblemError as problem:
        problem.exit_code = 2
        raise
    _print(changes)
    if changes:
        raise typer.Exit(1)


def _at(ref: str, environment: Environment, trial: list[str] | None, colour: Colour) -> list[Manifest]:
    """The manifests of an environment at a commit, with the overlays that it has there.

    What Argo CD brings has those of the working tree, because Argo CD reads them on main.

    Both sides of a comparison have the working tree's colour: with two colours the name of every object would differ.

    Raises:
        ProblemError: There is no such commit, or it cannot be rendered there.
    """
    try:
        with checkout(ref) as root:
            _copy_official_chart(root)
            own = environment.overlays if environment.is_brought_by_argocd else None
            return render_environment(Environment.load(environment.name, trial, root, colour, own), colour)
    except ProblemError as problem:
        raise fail(
            f"at {ref}: {problem.message}", "Name a ref at which this environment can be rendered.", 2
        ) from problem


def _against_cluster(environment: Environment, colour: Colour, after: list[Manifest]) -> list[Change]:
    cluster = connect(environment)
    out.print(f"comparing with the cluster of context {cluster.context}")
    stored = [live_objects.as_stored(manifest) for manifest in after if not live_objects.is_hook(manifest)]
    deployed = [
        live_objects.as_stored(manifest)
        for release in releases(environment, colour)
        for manifest in live_objects.deployed(cluster, release)
    ]
    return compare(live_objects.LiveObjects(cluster).existing(stored, deployed), stored)
