"""Configuration files of the bundle, read and checked against a model: the one way in which the library does both."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

CONFIG = Path(__file__).resolve().parents[2] / "config"
"""In the same bundle as the library, so that a bundle checked out anywhere finds its own."""

T = TypeVar("T")
PLAIN = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "model_type": "should be a map",
    "dict_type": "should be a map",
}
"""Types of pydantic's errors, in the words of YAML."""


class Section(BaseModel):
    """A map in a configuration file: it has exactly the keys of the model, each of its very type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _is_cron(expression: str) -> str:
    from croniter import croniter

    if not croniter.is_valid(expression):
        raise ValueError(f"{expression!r} is not a cron expression")
    return expression


Cron = Annotated[str, AfterValidator(_is_cron)]
"""A cron expression, or one of its names such as @daily."""


def read_checked(path: Path, model: type[T] | TypeAdapter[T]) -> T:
    """Read a YAML or JSON file that a model describes.

    Args:
        path: The file.
        model: A `Section`, or a TypeAdapter where the file is a map of sections.

    Raises:
        ValueError: It cannot be read, or a key is unknown, missing or wrong; file and key are named.
    """
    return read(path, lambda content: check(content, model))


def read(path: Path, checked: Callable[[Any], T]) -> T:
    """Read a YAML or JSON file.

    Args:
        path: The file.
        checked: Gives what the file says from its content, or raises a ValueError that names the key.

    Raises:
        ValueError: It cannot be read, or `checked` refuses it; the file is named.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    try:
        return checked(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check(content: Any, model: type[T] | TypeAdapter[T]) -> T:
    """Check a structure against a model.

    Raises:
        ValueError: A key is unknown, missing or wrong; each is named with what is wrong.
    """
    adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise ValueError("; ".join(_faults(error))) from error


def _faults(error: ValidationError) -> list[str]:
    """Each mistake as `key: what is wrong, found value`."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "the file"
        message = PLAIN.get(fault["type"]) or fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        found = "" if fault["type"] in ("missing", "extra_forbidden", "value_error") else f", found {fault['input']!r}"
        faults.append(f"{key}: {message}{found}")
    return faults
