"""Read configuration files of the repository and check them against a model."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from airflow_ops.console import fail

T = TypeVar("T")
NAMED: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
PLAIN = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "model_type": "should be a map",
    "dict_type": "should be a map",
}
"""Types of pydantic's errors, described in the terms of YAML."""


class UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader that refuses a key that a map has twice: Helm and PyYAML silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a map, unless two of its keys are the same text."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    problem = f"key {key.value!r} stands there twice, also on line {lines[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                lines[key.value] = key.start_mark.line + 1
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built


def read_yaml(path: Path, shown: Path | str) -> Any:
    """Read a YAML file; an empty one is an empty map.

    Args:
        path: The file.
        shown: Its name in an error.

    Raises:
        ProblemError: It cannot be read, is not YAML, or has a key twice; file and line are named.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)  # noqa: S506  a safe loader
    except OSError as error:
        raise fail(f"{shown} cannot be read: {error.strerror}.", "Make it a file that you may read.", 2) from error
    # PyYAML raises a ValueError for a date that does not exist, Python raises one for text that is not UTF-8.
    except (ValueError, yaml.YAMLError) as error:
        raise fail(f"{shown} is not YAML: {' '.join(str(error).split())}.", "Correct that line.", 2) from error
    return {} if content is None else content


def read_checked(path: Path, shown: Path | str, adapter: TypeAdapter[T], rule: str) -> T:
    """Read a YAML file and check it against a pydantic model.

    Args:
        path: The file; an empty one is an empty map.
        shown: Its name in an error.
        adapter: The model.
        rule: A sentence on what a correct file looks like, for the error.

    Raises:
        ProblemError: See `read_yaml`; or a key is unknown, missing or wrong: file and key are named.
    """
    content = read_yaml(path, shown)
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise fail(f"{shown}: {'; '.join(_faults(error))}.", rule, 2) from error


def read_names(path: Path) -> frozenset[str]:
    """The keys of a file of dags/config/, such as the tags or the sizes that exist.

    Raises:
        ProblemError: See `read_yaml`; or the file is not a map.
    """
    shown = f"{path.parents[1].name}/{path.parent.name}/{path.name}"
    named = read_checked(path, shown, NAMED, "Each of its keys is a name.")
    return frozenset(named)


def _faults(error: ValidationError) -> list[str]:
    """Each mistake as `key: what is wrong, found value`."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "the file"
        message = PLAIN.get(fault["type"]) or fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        found = "" if fault["type"] in ("missing", "extra_forbidden", "value_error") else f", found {fault['input']!r}"
        faults.append(f"{key}: {message}{found}")
    return faults
