"""The values of an environment, layered as Helm layers them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from airflow_ops.console import fail
from airflow_ops.paths import CHARTS, ROOT, VALUES

Values = dict[str, Any]


def environments() -> list[str]:
    """Names of the environments: one for every file in values/ other than base.yaml."""
    return sorted(path.stem for path in VALUES.glob("*.yaml") if path.stem != "base")


def value_files(environment: str, overlays: Iterable[str] = ()) -> list[Path]:
    """The files of an environment in the order in which Helm takes them.

    Args:
        environment: Name of a file in values/, without its suffix.
        overlays: Names of files in values/overlays/, without their suffix.

    Raises:
        ProblemError: An environment or overlay does not exist.
    """
    if environment not in environments():
        raise fail(
            f"environment {environment!r} does not exist: there is no values/{environment}.yaml.",
            f"Use one of {', '.join(environments())}, or write that file.",
            exit_code=2,
        )
    files = [VALUES / "base.yaml", VALUES / f"{environment}.yaml"]
    for overlay in overlays:
        path = VALUES / "overlays" / f"{overlay}.yaml"
        if not path.exists():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
            raise fail(f"overlay {overlay!r} does not exist.", f"Known overlays: {known}.", exit_code=2)
        files.append(path)
    return files


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """Merge two layers as Helm does: maps are merged, all else is replaced, and null removes a key."""
    merged = dict(below)
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def read_yaml(path: Path) -> Values:
    """Read one values file.

    Raises:
        ProblemError: The file is not YAML, or not a map; the file and the line are named.
    """
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        place = re.sub(r"\s+", " ", str(error))
        raise fail(f"{path.relative_to(ROOT)} is not YAML: {place}.", "Mend that line.") from error
    if not isinstance(content, dict):
        raise fail(f"{path.relative_to(ROOT)} holds a {type(content).__name__}.", "A values file is a map.")
    return content


def installed_values(environment: str, overlays: Iterable[str] = ()) -> Values:
    """The values of an environment as the charts see them: with the charts' own defaults below.

    Raises:
        ProblemError: See `load_values`.
    """
    return merge(read_yaml(CHARTS / "platform/values.yaml"), load_values(environment, overlays))


def image_name(values: Values) -> str:
    """Repository and tag of the environment's image."""
    image = values["global"]["image"]
    return f"{image['repository']}:{image['tag']}"


def load_values(environment: str, overlays: Iterable[str] = ()) -> Values:
    """The merged values of an environment: base, the environment, then each overlay.

    Raises:
        ProblemError: See `value_files` and `read_yaml`.
    """
    values: Values = {}
    for path in value_files(environment, overlays):
        values = merge(values, read_yaml(path))
    return values
