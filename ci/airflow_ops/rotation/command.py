"""`rotate`: give an environment a new key, password or credential while it runs."""

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_ops.cluster import airflow_api
from airflow_ops.cluster.connection import connect
from airflow_ops.console import fail
from airflow_ops.environments.environment import Environment
from airflow_ops.options import EnvironmentName, TrialOverlays
from airflow_ops.rotation import sequence
from airflow_ops.rotation.context import RotationContext
from airflow_ops.rotation.sequence import Step
from airflow_ops.rotation.state import ConfigMapNotebook


class Kind(StrEnum):
    """What can be rotated; a module of this package each."""

    FERNET = "fernet"
    JWT = "jwt"
    API = "api"
    DATABASE = "database"
    GIT = "git"


def rotate(
    kind: Annotated[Kind, typer.Argument(help="What to rotate.")],
    name: EnvironmentName,
    overlay: TrialOverlays = None,
    wait: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="jwt: trust the old key for so long at least; 86400 spares users and scripts another login.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FOLDER", help="git: the new credential, in files named like the Secret's keys."
        ),
    ] = None,
) -> None:
    """Give an environment a new key or password while it runs; no task fails of it.

    It may be cut off at any moment: run again, it goes on with the step it was at (docs/rotation.md). Where the Secrets
    come from a store, it says what to put there and waits for it.

    Example: airflow-ops rotate fernet dev
    """
    context = RotationContext(connect(Environment.load(name, overlay)))
    check = Step("check", "a login and a request", lambda: _check_health(context))
    steps = [*_steps(kind, context, wait, folder), check]
    sequence.run(str(kind), steps, ConfigMapNotebook(context.cluster, str(kind)))


def _steps(kind: Kind, context: RotationContext, wait: int | None, folder: Path | None) -> list[Step]:
    for option, given, of in (("--wait", wait, Kind.JWT), ("--from", folder, Kind.GIT)):
        if given is not None and kind is not of:
            raise fail(f"{option} is an option of `rotate {of}`, not of `rotate {kind}`.", "Leave it out.", 2)
    module = import_module(f"airflow_ops.rotation.{kind}")
    own: tuple[Any, ...] = {Kind.JWT: (wait or 0,), Kind.GIT: (folder,)}.get(kind, ())
    return list(module.steps(context, *own))


def _check_health(context: RotationContext) -> None:
    """Log in, and ask for the version: API server, its keys and the database answer."""
    from airflow_client.client import MonitorApi

    with airflow_api.login(context.cluster) as client:
        health = MonitorApi(client).get_health()
    for component in ("metadatabase", "scheduler"):
        if getattr(health, component).status != "healthy":
            raise fail(f"the {component} is not healthy after the rotation.", "Look at its log; then run this again.")
