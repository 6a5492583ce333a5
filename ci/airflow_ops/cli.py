"""The command line: each verb is a module, named here once."""

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from airflow_ops.console import ProblemError, command_group, print_problem, unusable

VERBS = {
    "up": "local.command:up",
    "down": "local.command:down",
    "status": "status:status",
    "deps": "environments.official_chart:deps",
    "render": "manifests.render:render",
    "validate": "checks.validate:validate",
    "capacity": "checks.capacity:capacity",
    "diff": "manifests.diff:diff",
    "cluster-up": "cluster.local_cluster:cluster_up",
    "cluster-down": "cluster.local_cluster:cluster_down",
    "deploy": "deployment.deploy:deploy",
    "deploy-dags": "deployment.dag_deploy:deploy_dags",
    "upgrade": "upgrades.command:upgrade",
    "rollback": "upgrades.command:rollback",
    "promote": "upgrades.command:promote",
    "reconcile": "upgrades.reconcile:reconcile",
    "release": "delivery.release:release",
    "follow": "delivery.follow:follow",
    "propose": "delivery.propose:propose",
    "publish": "delivery.publish:publish",
    "pin-images": "delivery.pins:pin_images",
    "compatibility": "upgrades.compatibility:compatibility",
    "smoke": "deployment.smoke:smoke",
    "backup": "recovery.backup:backup",
    "restore": "recovery.restore:restore",
    "alerts": "monitoring.alerts:app",
    "dashboards": "monitoring.dashboards.command:dashboards",
    "dags": "dags.command:app",
    "bench": "dags.bench:app",
    "rotate": "rotation.command:rotate",
}
"""Verb to MODULE:NAME in this package, in the order of --help: a function, or a typer app with verbs of its own."""


class Verbs(TyperGroup):
    """Imports a verb only when it is called, so that it does not wait for the libraries of the others."""

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
    """Entry point: a problem that the user can fix, or that the cluster has, ends without a traceback."""
    try:
        app()
    except ProblemError as problem:
        print_problem(problem)
        sys.exit(problem.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        refused = unusable(error.filename, error)
        print_problem(refused)
        sys.exit(refused.exit_code)
    except Exception as error:
        # Only a verb that talks to a cluster has loaded the client whose errors these are.
        if "kubernetes" not in sys.modules:
            raise
        from airflow_ops.cluster.api_errors import as_problem

        found = as_problem(error)
        if found is None:
            raise
        print_problem(found)
        sys.exit(found.exit_code)
