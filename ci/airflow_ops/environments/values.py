"""Values files, merged as Helm merges them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_ops.console import fail
from airflow_ops.environments.configuration import read_yaml
from airflow_ops.paths import ROOT

Values = dict[str, Any]


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """Merge two layers as Helm does: maps are merged, everything else is replaced, and null removes a key."""
    merged = dict(below)
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def layers(files: Iterable[Path]) -> Values:
    """Merge values files, each over the one before.

    Raises:
        ProblemError: See `read_values`.
    """
    values: Values = {}
    for file in files:
        values = merge(values, read_values(file))
    return values


def read_values(path: Path) -> Values:
    """Read one values file.

    Raises:
        ProblemError: See `read_yaml`; or the file, or one of its sections, is not a map.
    """
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    content = read_yaml(path, shown)
    if not isinstance(content, dict):
        raise fail(f"{shown} holds a {type(content).__name__}.", "A values file is a map.", 2)
    for section, below in content.items():
        if not isinstance(below, dict | None):
            raise fail(f"{shown}: {section} is not a map, found {below!r:.200}.", "Write its keys below it.", 2)
    return content
