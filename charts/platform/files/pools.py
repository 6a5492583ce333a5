"""Make Airflow's pools those of the JSON on standard input: {name: {slots, description, include_deferred}}.

The migration Job and `airflow-ops up` run this. All of it is one transaction. A pool that is not named goes, but not
while an unfinished run has a task in it that is not done: without its pool that task would never start.
"""

import json
import sys
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import delete, exists, select


def unfinished() -> Any:
    """Whether a task that is not done names the pool of the row that the query is at."""
    states = [state for state in State.unfinished if state is not None]
    return exists(
        select(TaskInstance.task_id)
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .where(TaskInstance.pool == Pool.pool)
        .where(DagRun.state.in_(State.unfinished_dr_states))
        .where(TaskInstance.state.is_(None) | TaskInstance.state.in_(states))
    )


def sync(wanted: dict[str, dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Add and change what is wanted, remove what is not.

    Returns:
        Names of the pools that were removed, and of those that are still in use and were kept.
    """
    stray = Pool.pool.not_in([*wanted, Pool.DEFAULT_POOL_NAME])
    with create_session() as session:
        for name, pool in wanted.items():
            Pool.create_or_update_pool(
                name, pool["slots"], pool["description"], pool.get("include_deferred", False), session=session
            )
        session.flush()
        before = {name for name in session.scalars(select(Pool.pool).where(stray)) if name}
        session.execute(delete(Pool).where(stray, ~unfinished()), execution_options={"synchronize_session": False})
        kept = {name for name in session.scalars(select(Pool.pool).where(stray)) if name}
    return sorted(before - kept), sorted(kept)


if __name__ == "__main__":
    pools = json.load(sys.stdin)
    removed, kept = sync(pools)
    print(f"pools: {', '.join(sorted(pools))}")
    for name in removed:
        print(f"pool {name} removed: dags/config/pools.yaml does not have it")
    for name in kept:
        print(f"pool {name} kept: unfinished tasks are in it; the next deploy removes it")
