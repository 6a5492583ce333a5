"""Read configuration files of the repository and check them against a model."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from airflow_ops.console import fail

T = TypeVar("T")
PLAIN = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "model_type": "should be a map",
    "dict_type": "should be a map",
}
"""Types of pydantic's errors, described in the terms of YAML."""


def read_checked(path: Path, shown: Path | str, adapter: TypeAdapter[T], rule: str) -> T:
    """Read a YAML file and check it against a pydantic model.

    Args:
        path: The file; an empty one is an empty map.
        shown: Its name in an error.
        adapter: The model.
        rule: A sentence on what a correct file looks like, for the error.

    Raises:
        ProblemError: It is not YAML, or a key is unknown, missing or wrong; file and key are named.
    """
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise fail(f"{shown} is not YAML: {' '.join(str(error).split())}.", "Correct that line.", 2) from error
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise fail(f"{shown}: {'; '.join(_faults(error))}.", rule, 2) from error


def _faults(error: ValidationError) -> list[str]:
    """Each mistake as `key: what is wrong, found value`."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "the file"
        message = PLAIN.get(fault["type"]) or fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        found = "" if fault["type"] in ("missing", "extra_forbidden", "value_error") else f", found {fault['input']!r}"
        faults.append(f"{key}: {message}{found}")
    return faults
