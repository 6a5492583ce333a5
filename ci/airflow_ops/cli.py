"""The command line: each verb is a module, named here once."""

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from airflow_ops.console import ProblemError, command_group, print_problem

VERBS = {
    "up": "local.commands:up",
    "down": "local.commands:down",
    "status": "local.commands:status",
    "deps": "deps:deps",
    "render": "render:render",
    "validate": "validate:validate",
    "capacity": "capacity:capacity",
    "diff": "diff:diff",
    "cluster-up": "cluster:cluster_up",
    "cluster-down": "cluster:cluster_down",
    "deploy": "deploy:deploy",
    "smoke": "smoke:smoke",
    "backup": "backup:backup",
    "restore": "restore:restore",
    "alerts": "alerts:app",
    "dashboards": "dashboards.command:dashboards",
    "dags": "authors.commands:app",
    "bench": "bench:app",
    "rotate": "rotation.commands:rotate",
}
"""Verb to what does it, MODULE:NAME in this package, in the order of --help: a function, or an app with verbs."""


class Verbs(TyperGroup):
    """Imports a verb when it is called: one does not wait for the libraries of the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all verbs."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of this name; None if there is none."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name].partition(":")
        found = getattr(import_module(f"airflow_ops.{module}"), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        verb = typer.Typer(
            add_completion=False, pretty_exceptions_enable=False, context_settings=ctx.command.context_settings
        )
        verb.command(cmd_name)(found)
        return typer.main.get_command(verb)


app = command_group(
    "airflow-ops", "Run Apache Airflow 3: locally, and on Kubernetes per environment.", Verbs, completion=True
)


@app.callback()
def _root() -> None:
    """Run Apache Airflow 3: locally, and on Kubernetes per environment."""


def main() -> None:
    """Entry point: a problem the user can mend ends without a traceback."""
    try:
        app()
    except ProblemError as problem:
        print_problem(problem)
        sys.exit(problem.exit_code)
