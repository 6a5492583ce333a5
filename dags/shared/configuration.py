"""Reads the configuration beside the DAGs: YAML or JSON, checked against a pydantic model when a DAG file is parsed.

Every file is closed: an unknown key is an error, so that a misspelt one is not silently ignored. pydantic costs no
import time here, because `airflow.sdk` has loaded it already.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

BUNDLE = Path(__file__).resolve().parents[1]
CONFIG = BUNDLE / "config"
"""What all domains share; beside the library, so that a bundle that is checked out anywhere finds its own."""
EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a map",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a map",
    "string_type": "text",
}
"""What to call a type in a message, by pydantic's name of the error."""
TWICE = "key {!r} stands there twice"
Kind = TypeVar("Kind")


class UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that a map has twice, of which YAML would silently keep the last.

    The loader written in C is about ten times faster, and every parse of a DAG file reads several files.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a map, unless two of its keys are the same text."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, TWICE.format(key.value), key.start_mark)
                seen.add(key.value)
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a map of JSON, for `object_pairs_hook`.

    Raises:
        ValueError: A key stands there twice.
    """
    built = dict(pairs)
    if len(built) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(TWICE.format(next(name for name in names if names.count(name) > 1)))
    return built


class Closed(BaseModel):
    """A map that has exactly these keys; `"3"` is not taken for a number, nor `yes` for text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def read(path: Path, kind: type[Kind]) -> Kind:
    """Read and check one file.

    Args:
        path: A YAML file, or JSON if its name ends so.
        kind: What it must be: a `Closed` model, or a type such as `dict[str, float]`.

    Raises:
        ValueError: The file cannot be read or is wrong; one sentence for each problem names file and key.
    """
    return check(load(path), kind, str(path))


def load(path: Path) -> Any:
    """Read one YAML or JSON file without checking what is in it.

    Raises:
        ValueError: It cannot be read; the file is named.
    """
    form = "JSON" if path.suffix == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8")
        if form == "JSON":
            return json.loads(text, object_pairs_hook=unique_keys)
        return yaml.load(text, UniqueKeys)  # noqa: S506  a safe loader
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as {form}: {error}") from error


def check(content: Any, kind: type[Kind], where: str) -> Kind:
    """Check content that was read already.

    Args:
        content: What was read.
        kind: As of `read`.
        where: What each sentence begins with, such as the file; it may be empty.

    Raises:
        ValueError: As of `read`.
    """
    try:
        return TypeAdapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        prefix = f"{where}: " if where else ""
        raise ValueError("; ".join(f"{prefix}{problem}" for problem in _problems(error, kind))) from None


def _problems(error: ValidationError, kind: Any) -> Iterator[str]:
    """One sentence for each problem that pydantic found: key and reason."""
    for found in error.errors(include_url=False):
        key = ".".join(str(part) for part in found["loc"] if part != "[key]") or "the file"
        yield f"{key}: {_reason(found['type'], found['msg'], found['input'], _at(kind, found['loc']))}"


def _reason(error: str, message: str, value: Any, declared: Sequence[Any]) -> str:
    """Why a value is wrong.

    Args:
        error: pydantic's name of the error.
        message: What pydantic says.
        value: What was found.
        declared: The types on the way to the value, outermost first.
    """
    if error == "missing":
        return "missing"
    if error == "extra_forbidden":
        model = next(found for found in map(_model, reversed(declared)) if found)
        return f"unknown key (known here: {', '.join(sorted(model.model_fields))})"
    if error == "value_error":
        return message.removeprefix("Value error, ")
    if error in EXPECTED:
        null = " or null" if type(None) in get_args(declared[-1]) else ""
        return f"expected {EXPECTED[error]}{null}, found {value!r}"
    return f"{message.replace('Input should be', 'expected')}, found {value!r}"


def _at(kind: Any, location: Sequence[int | str]) -> list[Any]:
    """The types on the way to a location, as far as they are declared."""
    declared = [kind]
    for key in location:
        model = _model(declared[-1])
        if model is not None and key in model.model_fields:
            declared.append(model.model_fields[str(key)].annotation)
        elif model is None and get_args(declared[-1]):
            declared.append(get_args(declared[-1])[-1])
    return declared


def _model(kind: Any) -> type[BaseModel] | None:
    """The model that a declared type is, alone or beside null."""
    choices = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return next((one for one in choices if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _is_cron(schedule: str) -> str:
    from croniter import croniter

    if not croniter.is_valid(schedule):
        raise ValueError(f"{schedule!r} is not a cron expression")
    return schedule


Cron = Annotated[str, AfterValidator(_is_cron)]
"""A cron expression, or a word for one such as `@daily`."""
Text = Annotated[str, Field(min_length=1)]
"""Text that is not empty."""
Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""
