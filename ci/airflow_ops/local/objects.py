"""Pools and variables of the local Airflow."""

import json
import subprocess
import sys

from airflow_client.client import (
    ActionsInner4,
    ApiClient,
    BulkActionOnExistence,
    BulkBodyVariableBody,
    BulkCreateActionVariableBody,
    VariableApi,
    VariableBody,
)

from airflow_ops.console import fail
from airflow_ops.environments.pools import SCRIPT, load_pools
from airflow_ops.local.processes import process_environment
from airflow_ops.local.settings import LocalSettings

OVERWRITE = BulkActionOnExistence.OVERWRITE


def import_variables(client: ApiClient, variables: dict[str, str]) -> None:
    """Create or overwrite variables through the REST API.

    Args:
        client: Client of the running Airflow.
        variables: Values by key.

    Raises:
        ProblemError: Airflow refuses one of them.
    """
    entries = [VariableBody(key=key, value=value) for key, value in variables.items()]
    if not entries:
        return
    create = BulkCreateActionVariableBody(action="create", action_on_existence=OVERWRITE, entities=entries)
    answer = VariableApi(client).bulk_variables(BulkBodyVariableBody(actions=[ActionsInner4(create)]))
    errors = answer.create.errors if answer.create else []
    if errors:
        raise fail(f"Airflow refused variables: {errors}.", "Correct platform.variables in values/.")


def import_pools(settings: LocalSettings) -> None:
    """Replace the pools with those of `dags/config/pools.yaml`, by the same program as on a cluster.

    Raises:
        ProblemError: The file is wrong, or the program failed; its last line is shown.
    """
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input=json.dumps(load_pools()),
        env=process_environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise fail(
            f"the pools could not be set: {last}",
            "Correct what that line names; the pools are in dags/config/pools.yaml.",
        )
