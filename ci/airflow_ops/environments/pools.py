"""The pools of the platform, from `dags/config/pools.yaml`."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter

from airflow_ops.environments.configuration import read_checked
from airflow_ops.paths import CHARTS, DAGS

POOLS = DAGS / "config/pools.yaml"
SCRIPT = CHARTS / "platform/files/scripts/pools.py"
"""Replaces Airflow's pools with those on its standard input; the migration Job runs it too."""


def _not_zero(slots: int) -> int:
    if slots == -1 or slots > 0:
        return slots
    raise ValueError(f"a task needs at least one slot, found {slots}; -1 means no limit")


def _not_default_pool(name: str) -> str:
    if name == "default_pool":
        raise ValueError("Airflow's own pool is set by [core] default_pool_task_slot_count")
    return name


class Pool(BaseModel):
    """One pool, with the keys of `airflow pools import`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    slots: Annotated[int, AfterValidator(_not_zero)]
    description: str
    include_deferred: bool = False


ALL = TypeAdapter(dict[Annotated[str, AfterValidator(_not_default_pool)], Pool])


def load_pools(path: Path = POOLS) -> dict[str, dict[str, Any]]:
    """Pools by name: `slots` (-1 means no limit), `description`, and `include_deferred` where the file has it.

    Raises:
        ProblemError: A key is unknown, missing or of a wrong type; it is named.
    """
    rule = "A pool has slots (a number), a description and optionally include_deferred."
    return {name: pool.model_dump(exclude_unset=True) for name, pool in read_checked(path, path, ALL, rule).items()}
