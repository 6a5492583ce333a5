"""`airflow-ops render`: every manifest of an environment as files."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from airflow_ops.console import counted, fail, out
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour, Manifest, render_environment
from airflow_ops.options import EnvironmentName, TrialOverlays

MARK = ".airflow-ops-render"
"""Lists the files of an earlier render, so that no other file is ever removed."""
WRITTEN = re.compile(r"(?!\.)[^/]+/[^/]+\.yaml")
"""The path of a file that render writes: one folder below OUT, and never above it."""


def file_name(manifest: Manifest, namespace: str) -> str:
    """Path of a manifest below OUT: release/kind-name.yaml, with the namespace if it is not the environment's."""
    stem = f"{manifest.kind.lower()}-{manifest.name.replace(':', '_')}"
    if manifest.namespace != namespace:
        stem += f"@{manifest.namespace}"
    return f"{manifest.release}/{stem}.yaml"


def _written_before(folder: Path) -> set[str]:
    """The files of an earlier render, by their paths in the folder.

    Raises:
        ProblemError: It, or a part of its path, is no folder; or it contains files and was not written by render.
    """
    nearest = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    if not nearest.is_dir():
        raise fail(f"{nearest} is no folder.", "Name one, or one that is to be made.", exit_code=2)
    if nearest != folder:
        return set()
    mark = folder / MARK
    if not mark.exists():
        if any(folder.iterdir()):
            raise fail(f"{folder} is not empty and was not written by render.", "Name a new or an empty folder.", 2)
        return set()
    lines = mark.read_text(errors="replace").splitlines()
    for line in lines:
        if not WRITTEN.fullmatch(line):
            raise fail(f"{mark} names {line!r}, which render did not write.", "Remove the folder, or name another.", 2)
    return set(lines)


def write(manifests: list[Manifest], namespace: str, folder: Path) -> None:
    """Write manifests to a folder, then remove those of an earlier render that are no longer among them.

    Args:
        manifests: The objects.
        namespace: The environment's namespace.
        folder: A new or empty folder, or one that render wrote.

    Raises:
        ProblemError: The folder contains files and was not written by render, or cannot be written; or two objects have
            the same file name.
    """
    files: dict[str, str] = {}
    for manifest in manifests:
        name = file_name(manifest, namespace)
        if name in files:
            raise fail(f"{manifest.identity} and another object both go to {name}.", "Give one another name.")
        files[name] = manifest.yaml()
    try:
        _replace(files, _written_before(folder), folder)
    except OSError as error:
        raise fail(
            f"{error.filename or folder} cannot be written: {error.strerror}.", "Name another folder.", 2
        ) from error


def _replace(files: dict[str, str], before: set[str], folder: Path) -> None:
    """Write files in place of those before. The mark names both until the old ones are gone, in case it is cut off."""
    folder.mkdir(parents=True, exist_ok=True)
    _mark(folder, before | files.keys())
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for name in before - files.keys():
        (folder / name).unlink(missing_ok=True)
    for release in {name.partition("/")[0] for name in before}:
        if (folder / release).is_dir() and not any((folder / release).iterdir()):
            (folder / release).rmdir()
    _mark(folder, files)


def _mark(folder: Path, names: Iterable[str]) -> None:
    (folder / MARK).write_text("".join(f"{name}\n" for name in sorted(names)))


def render(
    name: EnvironmentName,
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder, or one that render wrote.")],
    colour: Annotated[Colour | None, typer.Option(help="Colour of Airflow; by default global.activeColour.")] = None,
    overlay: TrialOverlays = None,
) -> None:
    """Write every manifest of an environment, both charts, as OUT/<release>/<kind>-<name>.yaml.

    Example: airflow-ops render prod out/prod
    """
    environment = Environment.load(name, overlay)
    # This comes first because rendering takes seconds, and a folder that cannot be used is an error anyway.
    _written_before(folder)
    manifests = render_environment(environment, colour)
    write(manifests, environment.namespace, folder)
    counts = ", ".join(
        f"{sum(m.release == release for m in manifests)} of {release}"
        for release in dict.fromkeys(m.release for m in manifests)
    )
    out.print(f"{counted(len(manifests), 'manifest')} of {name} in {folder}: {counts}")
