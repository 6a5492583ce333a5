"""The pools of the platform, as `dags/config/pools.yaml` has them."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter

from airflow_ops.environments.configuration import read_checked
from airflow_ops.paths import CHARTS, DAGS

POOLS = DAGS / "config/pools.yaml"
SCRIPT = CHARTS / "platform/files/scripts/pools.py"
"""Makes Airflow's pools those on its standard input; the migration Job runs it too."""


def _lets_something_run(slots: int) -> int:
    if slots == -1 or slots > 0:
        return slots
    raise ValueError(f"{slots} lets nothing run; -1 is without limit")


def _is_ours(name: str) -> str:
    if name == "default_pool":
        raise ValueError("Airflow's own pool is set by [core] default_pool_task_slot_count")
    return name


class Pool(BaseModel):
    """One pool, with the keys that Airflow's own import of pools has."""

    model_config = ConfigDict(extra="forbid", strict=True)

    slots: Annotated[int, AfterValidator(_lets_something_run)]
    description: str
    include_deferred: bool = False


ALL = TypeAdapter(dict[Annotated[str, AfterValidator(_is_ours)], Pool])


def load_pools(path: Path = POOLS) -> dict[str, dict[str, Any]]:
    """Pools by name: `slots` (-1 is without limit), `description`, and `include_deferred` where the file says it.

    Raises:
        ProblemError: A key is unknown, missing or mistyped; it is named.
    """
    rule = "A pool has slots (a number), a description and perhaps include_deferred."
    return {name: pool.model_dump(exclude_unset=True) for name, pool in read_checked(path, path, ALL, rule).items()}
