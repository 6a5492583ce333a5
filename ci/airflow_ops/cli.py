"""The command line: each verb is a module, named here once."""

import sys

import typer

from airflow_ops import capacity, deps, diff, render, validate
from airflow_ops.console import ProblemError, print_problem
from airflow_ops.local import commands as local

app = typer.Typer(
    name="airflow-ops",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run Apache Airflow 3: locally, and on Kubernetes per environment.",
)


@app.callback()
def _root() -> None:
    """Run Apache Airflow 3: locally, and on Kubernetes per environment."""


for verb in (
    local.up,
    local.down,
    local.status,
    deps.deps,
    render.render,
    validate.validate,
    capacity.capacity,
    diff.diff,
):
    app.command()(verb)


def main() -> None:
    """Entry point: a problem the user can mend ends without a traceback."""
    try:
        app()
    except ProblemError as problem:
        print_problem(problem)
        sys.exit(problem.exit_code)
