"""How DAGs behave in the environment that they run in: `dags/config/<AIRFLOW_ENV>.yaml`, read once and checked.

Standard-library dataclasses, because this is imported whenever a DAG file is parsed.
"""

import os
import types
import typing
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

CONFIG = Path(__file__).resolve().parents[1] / "config"
"""Beside the library, so that a bundle checked out anywhere finds its own."""
ENVIRONMENTS = ("dev", "staging", "prod")


@dataclass(frozen=True)
class Tasks:
    """How tasks retry.

    Attributes:
        max_retries: No task retries more often than this, whatever its profile says.
        retry_delay_scale: What the delays of a profile are multiplied by; 1 keeps them.
    """

    max_retries: int
    retry_delay_scale: float


@dataclass(frozen=True)
class Notifications:
    """Who is told.

    Attributes:
        slack_connection: Id of the Airflow connection of type `slack`; where it does not exist, messages are logged.
        slack_channel: Channel, with its `#`.
        pagerduty_connection: Id of the connection of type `pagerduty_events`; null where nobody is to be woken.
        email_connection: Id of the connection of type `smtp`; null where nobody gets e-mail.
        by_team: Whether a team's own channel and address (`dags/config/teams.yaml`) are told; else the channel above.
        failures_an_hour: Messages on failures of one DAG in an hour; the rest is logged only. Pages are not held back.
    """

    slack_connection: str
    slack_channel: str
    pagerduty_connection: str | None
    email_connection: str | None
    by_team: bool
    failures_an_hour: int


@dataclass(frozen=True)
class Health:
    """From when on the platform counts as unhealthy, in seconds.

    Attributes:
        scheduler_heartbeat_seconds: Oldest acceptable scheduler heartbeat.
        component_heartbeat_seconds: Oldest acceptable heartbeat of triggerer and DAG processor.
        bundle_parse_seconds: Oldest acceptable parse of the health DAG's own file.
    """

    scheduler_heartbeat_seconds: float
    component_heartbeat_seconds: float
    bundle_parse_seconds: float


@dataclass(frozen=True)
class Flights:
    """Settings of the flights pipeline.

    Attributes:
        max_rejected_share: Share of a partition's rows (0 to 1) that may be set aside before the load is refused.
        source_megabytes: Size of a year's flights: what a task that reads them all is given (`shared.limits`).
    """

    max_rejected_share: float
    source_megabytes: float


@dataclass(frozen=True)
class Environment:
    """One environment: its name and a section for each reader."""

    name: str
    tasks: Tasks
    notifications: Notifications
    health: Health
    flights: Flights


@cache
def environment() -> Environment:
    """The environment named by the variable AIRFLOW_ENV, `dev` where it is not set.

    Raises:
        ValueError: The environment is unknown, or its file has an unknown, missing or mistyped key.
    """
    name = os.environ.get("AIRFLOW_ENV", "dev")
    if name not in ENVIRONMENTS:
        raise ValueError(f"AIRFLOW_ENV is {name!r}: use one of {', '.join(ENVIRONMENTS)}.")
    return load_environment(CONFIG / f"{name}.yaml")


def load_environment(path: Path) -> Environment:
    """Read one environment file; the environment's name is the file's.

    Raises:
        ValueError: As of `environment`; file and key are named.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    if isinstance(content, dict) and "name" in content:
        raise ValueError(f"{path}: name: remove it, an environment is named by its file.")
    return _build(Environment, content, path, given={"name": path.stem})


Section = TypeVar("Section")


def _build(
    section: type[Section], content: Any, path: Path, prefix: str = "", given: dict[str, Any] | None = None
) -> Section:
    """Make a dataclass out of a map that must have exactly its keys."""
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {prefix.rstrip('.') or 'the file'}: expected a map, found {type(content).__name__}.")
    hints = typing.get_type_hints(section)
    known = {field.name: field.default is MISSING for field in fields(section)}  # type: ignore[arg-type]
    values = dict(given or {})
    for key in content:
        if key not in known:
            raise ValueError(f"{path}: {prefix}{key}: unknown key; known here: {', '.join(sorted(known))}.")
        values[key] = _value(hints[key], content[key], path, f"{prefix}{key}")
    missing = [key for key, required in known.items() if required and key not in values]
    if missing:
        raise ValueError(f"{path}: {prefix}{missing[0]}: missing; every environment sets every key.")
    return section(**values)


def _value(hint: Any, value: Any, path: Path, key: str) -> Any:
    """Check one value against the type that its field declares."""
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return _build(hint, value, path, prefix=f"{key}.")
    allowed = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in allowed:
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
        raise ValueError(f"{path}: {key}: expected {names}, found {value!r}.")
    return value
