"""Configuration files of the repository, read and checked against a model."""

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
"""Types of pydantic's errors, in the words of YAML."""


def read_checked(path: Path, shown: Path | str, adapter: TypeAdapter[T], rule: str) -> T:
    """Read a YAML file that a pydantic model describes.

    Args:
        path: The file; an empty one is an empty map.
        shown: How an error names it.
        adapter: The model.
        rule: What a right file looks like, in a sentence, for the error.

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
