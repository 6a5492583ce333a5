"""How DAGs behave in the environment that they run in: `dags/config/settings/<AIRFLOW_ENV>.yaml`, read once.

A domain has settings of its own beside its DAGs, read the same way: `of_environment(Model, dags/<domain>/config)`.
"""

import os
from functools import cache
from pathlib import Path
from typing import TypeVar

from shared.authoring.configuration import CONFIG, Section, read_checked


class Tasks(Section):
    """How tasks retry.

    Attributes:
        max_retries: No task retries more often than this, whatever its profile says.
        retry_delay_scale: What the delays of a profile are multiplied by; 1 keeps them.
    """

    max_retries: int
    retry_delay_scale: float


class Notifications(Section):
    """Who gets messages.

    Attributes:
        slack_connection: Id of the Airflow connection of type `slack`; where it does not exist, messages are logged.
        slack_channel: Channel, with its `#`.
        pagerduty_connection: Id of the connection of type `pagerduty_events`; null where nobody is to be woken.
        email_connection: Id of the connection of type `smtp`; null where nobody gets e-mail.
        by_team: Whether messages go to a team's own channel and address (`dags/config/teams.yaml`), or all to the
            channel above.
        failures_an_hour: Messages on failures of one DAG in an hour; the rest is only logged. Pages always go out.
    """

    slack_connection: str
    slack_channel: str
    pagerduty_connection: str | None
    email_connection: str | None
    by_team: bool
    failures_an_hour: int


class Health(Section):
    """From when on the platform counts as unhealthy, in seconds.

    Attributes:
        scheduler_heartbeat_seconds: Oldest acceptable scheduler heartbeat.
        component_heartbeat_seconds: Oldest acceptable heartbeat of triggerer and DAG processor.
        bundle_parse_seconds: Oldest acceptable parse of the health DAG's own file.
    """

    scheduler_heartbeat_seconds: float
    component_heartbeat_seconds: float
    bundle_parse_seconds: float


class Settings(Section):
    """The settings that the library reads: a section for each reader."""

    tasks: Tasks
    notifications: Notifications
    health: Health


S = TypeVar("S", bound=Section)


def environment_name() -> str:
    """The environment that the DAGs run in: the variable AIRFLOW_ENV, `dev` where it is not set."""
    return os.environ.get("AIRFLOW_ENV", "dev")


@cache
def settings() -> Settings:
    """The settings of the environment.

    Raises:
        ValueError: The environment is unknown, or its file has an unknown, missing or mistyped key.
    """
    return of_environment(Settings, CONFIG)


def of_environment(model: type[S], config: Path) -> S:
    """Settings from `<config>/settings/<AIRFLOW_ENV>.yaml`.

    Args:
        model: What the file holds.
        config: The configuration folder of the bundle, or of a domain.

    Raises:
        ValueError: See `settings`.
    """
    name, folder = environment_name(), config / "settings"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ValueError(f"AIRFLOW_ENV is {name!r}: use one of {', '.join(known)}, or write {name}.yaml into {folder}.")
    return read_checked(folder / f"{name}.yaml", model)
