"""Pools and variables of the local Airflow, brought in through its REST API."""

from typing import Any

from airflow_client.client import (
    ActionsInner3,
    ActionsInner4,
    ApiClient,
    BulkActionOnExistence,
    BulkBodyPoolBody,
    BulkBodyVariableBody,
    BulkCreateActionPoolBody,
    BulkCreateActionVariableBody,
    PoolApi,
    PoolBody,
    VariableApi,
    VariableBody,
)

from airflow_ops.console import fail

OVERWRITE = BulkActionOnExistence.OVERWRITE


def _check(what: str, answer: Any) -> None:
    errors = answer.create.errors if answer.create else []
    if errors:
        raise fail(f"Airflow refused {what}: {errors}.", f"Mend platform.{what} in values/.")


def bring_in(client: ApiClient, pools: dict[str, dict[str, Any]], variables: dict[str, str]) -> None:
    """Create or overwrite pools and variables.

    Args:
        client: Client of the running Airflow.
        pools: `platform.pools` of the values: slots, description and includeDeferred by name.
        variables: Values by key.

    Raises:
        ProblemError: Airflow refuses one of them.
    """
    pool_bodies = [
        PoolBody(
            name=name,
            slots=pool["slots"],
            description=pool.get("description"),
            include_deferred=pool.get("includeDeferred", False),
        )
        for name, pool in pools.items()
    ]
    if pool_bodies:
        action = BulkCreateActionPoolBody(action="create", action_on_existence=OVERWRITE, entities=pool_bodies)
        _check("pools", PoolApi(client).bulk_pools(BulkBodyPoolBody(actions=[ActionsInner3(action)])))
    entries = [VariableBody(key=key, value=value) for key, value in variables.items()]
    if entries:
        create = BulkCreateActionVariableBody(action="create", action_on_existence=OVERWRITE, entities=entries)
        _check("variables", VariableApi(client).bulk_variables(BulkBodyVariableBody(actions=[ActionsInner4(create)])))
