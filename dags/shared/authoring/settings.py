"""How DAGs behave in the environment that they run in: `dags/config/environments/<AIRFLOW_ENV>.yaml`, read once.

A domain that has settings of its own keeps them beside its DAGs, in `dags/<domain>/config/environments/`, one file an
environment, and reads them with `load_settings` and a model of its own.
"""

import os
from functools import cache
from pathlib import Path
from typing import TypeVar

from shared.configuration import CONFIG, Closed, read

ENVIRONMENTS = CONFIG / "environments"


class Tasks(Closed):
    """How tasks retry.

    Attributes:
        max_retries: No task retries more often than this, whatever its profile says.
        retry_delay_scale: What the delays of a profile are multiplied by; 1 keeps them.
    """

    max_retries: int
    retry_delay_scale: float


class Notifications(Closed):
    """Who is notified.

    Attributes:
        slack_connection: Id of the Airflow connection of type `slack`; where it does not exist, messages are logged.
        slack_channel: Channel, with its `#`.
        pagerduty_connection: Id of the connection of type `pagerduty_events`; null where nobody is to be woken.
        email_connection: Id of the connection of type `smtp`; null where nobody gets e-mail.
        by_team: Whether messages go to a team's own channel and address (`dags/config/teams.yaml`); else to the channel
            above.
        failures_an_hour: Messages about failures of one DAG in an hour; further ones are only logged. Pages are not
            limited.
    """

    slack_connection: str
    slack_channel: str
    pagerduty_connection: str | None
    email_connection: str | None
    by_team: bool
    failures_an_hour: int


class Health(Closed):
    """From when on the platform counts as unhealthy, in seconds.

    Attributes:
        scheduler_heartbeat_seconds: Oldest acceptable scheduler heartbeat.
        component_heartbeat_seconds: Oldest acceptable heartbeat of triggerer and DAG processor.
        bundle_parse_seconds: Oldest acceptable parse of the health DAG's own file.
    """

    scheduler_heartbeat_seconds: float
    component_heartbeat_seconds: float
    bundle_parse_seconds: float


class Settings(Closed):
    """The settings that the library reads: one section for each reader."""

    tasks: Tasks
    notifications: Notifications
    health: Health


Model = TypeVar("Model", bound=Closed)


@cache
def settings() -> Settings:
    """The library's settings in this environment.

    Raises:
        ValueError: As of `load_settings`.
    """
    return load_settings(Settings, ENVIRONMENTS)


def environment_name() -> str:
    """The environment that the variable AIRFLOW_ENV names, `dev` where it is not set."""
    return os.environ.get("AIRFLOW_ENV", "dev")


def environments(folder: Path = ENVIRONMENTS) -> list[str]:
    """The environments that there are: one file each."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_settings(model: type[Model], folder: Path) -> Model:
    """Read the settings of this environment.

    Args:
        model: What the file must hold.
        folder: Where the files are, one an environment.

    Raises:
        ValueError: There is no file for this environment, or it has an unknown, missing or mistyped key.
    """
    name = environment_name()
    if name not in environments(folder):
        raise ValueError(f"AIRFLOW_ENV is {name!r}: use one of {', '.join(environments(folder))} ({folder}).")
    return read(folder / f"{name}.yaml", model)
