"""Pool, slots, priority and timeout of a task, by the volume of data that it moves.

Chosen while the file is parsed, from a number in the configuration: a running task cannot change its pool. Where only
the run knows the volume, branch to tasks of different pools (`shared.composing.branches.by_volume`).
"""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from shared.composing.branches import Volume, by_volume


@dataclass(frozen=True)
class Limits:
    """Arguments of a task, by Airflow's names.

    Attributes:
        pool: A pool of `dags/config/pools.yaml`.
        pool_slots: Slots that one instance takes there.
        priority_weight: Which task of a full pool starts first: the one with the most.
        execution_timeout: After which the task ends.
        weight_rule: `absolute`: the weight is the number given. By default (`downstream`) a task adds up all that come
            after it, so that the first task of a long DAG would go before any other.
    """

    pool: str
    pool_slots: int
    priority_weight: int
    execution_timeout: timedelta
    weight_rule: str = "absolute"


BY_VOLUME: dict[Volume, Limits] = {
    "small": Limits("standard", 1, 1, timedelta(minutes=30)),
    "medium": Limits("medium", 1, 5, timedelta(minutes=30)),
    "large": Limits("large", 1, 10, timedelta(hours=2)),
}
"""Weights, timeouts and pools are those of the Airflow field guides: what takes longest starts first."""


def limits(megabytes: float, **overrides: Any) -> dict[str, Any]:
    """The limits of a task that moves so many megabytes: `@task(**limits(megabytes=250))`.

    Args:
        megabytes: From the configuration, so that every parse gives the same.
        **overrides: Arguments that replace those chosen, such as `pool_slots=2` for a task that counts twice.
    """
    return {**asdict(BY_VOLUME[by_volume(rows=0, megabytes=megabytes)]), **overrides}
