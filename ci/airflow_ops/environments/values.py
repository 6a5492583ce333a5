"""Values files, merged as Helm merges them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from airflow_ops.console import fail
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
        ProblemError: See `read_yaml`.
    """
    values: Values = {}
    for file in files:
        values = merge(values, read_yaml(file))
    return values


def read_yaml(path: Path) -> Values:
    """Read one values file.

    Raises:
        ProblemError: The file is not YAML, or not a map; the file and the line are named.
    """
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        line = re.sub(r"\s+", " ", str(error))
        raise fail(f"{shown} is not YAML: {line}.", "Correct that line.") from error
    if not isinstance(content, dict):
        raise fail(f"{shown} holds a {type(content).__name__}.", "A values file is a map.")
    return content
