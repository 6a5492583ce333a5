"""Arguments and options that several verbs have, each declared once."""

from typing import Annotated

import typer

EnvironmentName = Annotated[
    str, typer.Argument(metavar="ENV", help="dev, staging or prod: a name in k8s/environments.yaml.")
]
TrialOverlays = Annotated[
    list[str] | None,
    typer.Option(
        "--overlay",
        metavar="NAME",
        help="One more file of values/overlays/, for a trial; repeatable. "
        "The overlays of ENV itself are in k8s/environments.yaml.",
        show_default=False,
    ),
]
InCluster = Annotated[
    bool,
    typer.Option(
        "--in-cluster", help="Run it as a Job in the cluster, from HEAD of this checkout (docs/upgrading.md)."
    ),
]
LONGEST_WAIT = 7 * 24 * 3600
"""Seconds that a verb may be asked to wait."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")]
