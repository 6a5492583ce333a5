"""Read configuration files of the repository and check them against a model."""

import json
import stat
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


LARGEST_FILE = 10_000_000
"""Bytes of a file that is read: the largest ones, the dashboards, have some 100,000."""
LARGEST_DOCUMENT = 1_000_000
"""Nodes of a YAML document, with those that its aliases repeat."""


class UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader that refuses what silently becomes something else, or more than this machine has room for.

    The first is a key that a map has twice, of which Helm and PyYAML keep the last one. The second are aliases of
    aliases, with which a file of 300 bytes holds 10^9 words.
    """

    def get_single_node(self) -> Any:
        """The whole document, unless its aliases make it too large."""
        node = super().get_single_node()
        if node is not None:
            _size(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a map, unless two of its keys are the same text."""
        lines: dict[str, int] = {}
        # With a tag `!!map` the node may be a word or a list.
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    problem = f"key {key.value!r} stands there twice, also on line {lines[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                lines[key.value] = key.start_mark.line + 1
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of nodes in a node, with those that aliases repeat.

    Args:
        node: The node.
        known: What was counted already, by the identity of a node; 0 for one that is being counted.

    Raises:
        MarkedYAMLError: The node holds itself, or more than `LARGEST_DOCUMENT` nodes.
    """
    if id(node) not in known:
        known[id(node)] = 0
        parts = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
        below = 0 if isinstance(node, yaml.ScalarNode) else sum(_size(each, known) for each in parts)
        if below >= LARGEST_DOCUMENT:
            raise yaml.MarkedYAMLError(problem="its aliases make it too large", problem_mark=node.start_mark)
        known[id(node)] = below + 1
    if not known[id(node)]:
        raise yaml.MarkedYAMLError(problem="an alias stands inside of what it repeats", problem_mark=node.start_mark)
    return known[id(node)]


def read_text(path: Path, shown: Path | str) -> str:
    """Read a text file.

    Args:
        path: The file.
        shown: Its name in an error.

    Raises:
        ProblemError: It cannot be read, is no regular file, is too large, or is not UTF-8; the file is named.
    """
    try:
        found = path.stat()
        # A pipe would be waited for, and a device never ends.
        if not stat.S_ISREG(found.st_mode):
            raise fail(f"{shown} is no regular file.", "Make it a file that you may read.", 2)
        if found.st_size > LARGEST_FILE:
            raise fail(f"{shown} has {found.st_size:,} bytes.", f"At most {LARGEST_FILE:,} are read: is it another?", 2)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise fail(f"{shown} cannot be read: {error.strerror}.", "Make it a file that you may read.", 2) from error
    except UnicodeDecodeError as error:
        raise fail(f"{shown} is not UTF-8: {error}.", "Correct that byte.", 2) from error


def read_yaml(path: Path, shown: Path | str) -> Any:
    """Read a YAML file; an empty one is an empty map.

    Args:
        path: The file.
        shown: Its name in an error.

    Raises:
        ProblemError: It cannot be read, is not YAML, or has a key twice; file and line are named.
    """
    text = read_text(path, shown)
    try:
        content = yaml.load(text, UniqueKeys)  # noqa: S506  a safe loader
    except RecursionError as error:
        raise fail(f"{shown} is nested too deeply.", "Write it with fewer levels.", 2) from error
    # PyYAML lets through what Python raises for a tag that its value does not fit, such as a date that does not exist.
    except (ValueError, LookupError, AttributeError, TypeError, yaml.YAMLError) as error:
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
    return _checked(read_yaml(path, shown), shown, adapter, rule)


def read_json(path: Path, shown: Path | str, adapter: TypeAdapter[T], rule: str) -> T:
    """Read a JSON file and check it against a pydantic model.

    Args:
        path: The file.
        shown: Its name in an error.
        adapter: The model.
        rule: A sentence on what to do with a file that is wrong, for the error.

    Raises:
        ProblemError: See `read_text`; or it is not JSON, or a key is unknown, missing or wrong: file and key are named.
    """
    text = read_text(path, shown)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise fail(f"{shown} is not JSON: {error}.", rule, 2) from error
    return _checked(content, shown, adapter, rule)


def _checked(content: Any, shown: Path | str, adapter: TypeAdapter[T], rule: str) -> T:
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
        found = (
            "" if fault["type"] in ("missing", "extra_forbidden", "value_error") else f", found {fault['input']!r:.200}"
        )
        faults.append(f"{key}: {message}{found}")
    return faults
