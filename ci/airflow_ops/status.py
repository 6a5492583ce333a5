"""`status`: what runs on this machine, or in an environment."""

from pathlib import Path
from typing import Annotated

import typer

from airflow_ops.console import fail
from airflow_ops.options import AsJson, TrialOverlays


def status(
    name: Annotated[
        str, typer.Argument(metavar="[ENV]", help="An environment; without it, the Airflow of this machine.")
    ] = "",
    overlay: TrialOverlays = None,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show an upgrade or a rollback until it has ended; needs ENV.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report of the last upgrade: a page (.html) or JSON (.json)."),
    ] = None,
) -> None:
    """Show what runs on this machine, or in an environment: its colours, its last upgrade, the operation that runs.

    Without ENV the exit code is 3 if a component is not healthy.

    Example: airflow-ops status dev --watch
    """
    if watch and (not name or as_json or report):
        raise fail("--watch is for an environment, and for people.", "Give ENV, and leave --json and --report.", 2)
    # Each is imported only when it is needed: a cluster's libraries take half a second.
    if name:
        from airflow_ops.environments.environment import Environment
        from airflow_ops.upgrades.report import show_status, watch_status, write_report

        environment = Environment.load(name, overlay)
        if report:
            write_report(environment, report)
        elif watch:
            watch_status(environment)
        else:
            show_status(environment, as_json)
    else:
        from airflow_ops.local.command import show_status as show_local_status

        show_local_status(as_json)
