"""`rotate`: give an environment a new key, password or credential while it runs."""

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_ops.cluster import airflow_api, lease
from airflow_ops.cluster.connection import connect
from airflow_ops.colours.record import refuse_open
from airflow_ops.console import fail
from airflow_ops.environments.environment import Environment
from airflow_ops.options import LONGEST_WAIT, EnvironmentName, TrialOverlays
from airflow_ops.rotation import sequence
from airflow_ops.rotation.context import RotationContext
from airflow_ops.rotation.sequence import Step
from airflow_ops.rotation.state import ConfigMapStore


class Kind(StrEnum):
    """What can be rotated; each is a module of this package."""

    FERNET = "fernet"
    JWT = "jwt"
    API = "api"
    DATABASE = "database"
    GIT = "git"


def rotate(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="What to rotate.")],
    name: EnvironmentName,
    overlay: TrialOverlays = None,
    wait: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LONGEST_WAIT,
            metavar="SECONDS",
            help="jwt: trust the old key for at least so many seconds; with 86400 users and scripts need no new login.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FOLDER", help="git: folder of the new credential, in files named like the Secret's keys."
        ),
    ] = None,
) -> None:
    """Give an environment a new key or password while it runs, without failing a task.

    A rotation that was cut off continues with the same step when it is run again
    (docs/rotation.md). Where the Secrets come from a store, it prints what to put
    there and waits for it.

    Example: airflow-ops rotate fernet dev
    """
    context = RotationContext(connect(Environment.load(name, overlay)))
    check = Step("check", "log in and send a request", lambda: _check_health(context))
    steps = [*_steps(kind, context, wait, folder), check]
    with lease.hold(context.cluster, f"rotate {kind}"):
        refuse_open(context.cluster)
        sequence.run(str(kind), steps, ConfigMapStore(context.cluster, str(kind)))


def _steps(kind: Kind, context: RotationContext, wait: int | None, folder: Path | None) -> list[Step]:
    for option, given, of in (("--wait", wait, Kind.JWT), ("--from", folder, Kind.GIT)):
        if given is not None and kind is not of:
            raise fail(f"{option} is an option of `rotate {of}`, not of `rotate {kind}`.", "Leave it out.", 2)
    module = import_module(f"airflow_ops.rotation.{kind}")
    own: tuple[Any, ...] = {Kind.JWT: (wait or 0,), Kind.GIT: (folder,)}.get(kind, ())
    return list(module.steps(context, *own))


def _check_health(context: RotationContext) -> None:
    """Log in and ask for version and health, which need the API server, its keys and the database."""
    from airflow_client.client import MonitorApi

    with airflow_api.login(context.cluster) as client:
        health = MonitorApi(client).get_health()
    for component in ("metadatabase", "scheduler"):
        if getattr(health, component).status != "healthy":
            raise fail(
                f"the {component} is not healthy after the rotation.",
                "Correct what its log names; then run this again.",
            )
