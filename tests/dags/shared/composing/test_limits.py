"""Pools are what the file says, whatever was there; and a task's limits follow from the volume of its data."""

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select, update

from airflow_ops.environments.pools import SCRIPT, load_pools
from shared.composing.limits import limits

ONE = {"warehouse": {"slots": 4, "description": "Loads"}}


@pytest.fixture
def script(metadata_database: None) -> ModuleType:
    """The program of the migration Job."""
    spec = importlib.util.spec_from_file_location("platform_pools", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pools() -> dict[str, int]:
    with create_session() as session:
        return {str(pool.pool): pool.slots for pool in session.scalars(select(Pool))}


def add(name: str) -> None:
    with create_session() as session:
        Pool.create_or_update_pool(name, 1, "by hand", False, session=session)


def test_pools_are_added_changed_and_removed_but_never_the_default_one(script: ModuleType) -> None:
    script.sync({**ONE, "old": {"slots": 1, "description": "Old"}})
    default = pools()["default_pool"]

    removed, kept = script.sync({"warehouse": {"slots": 7, "description": "Loads", "include_deferred": True}})

    assert (removed, kept) == (["old"], [])
    assert pools() == {"default_pool": default, "warehouse": 7}
    assert script.sync(ONE) == ([], []), "once more: nothing to do"


TEXT = """
from airflow.sdk import dag, task

@dag(schedule=None)
def pools_hold():
    @task
    def hold():
        pass
    hold()

pools_hold()
"""


@pytest.mark.parametrize(
    ("task", "run", "stays"),
    [
        ("running", "running", True),
        ("deferred", "running", True),
        ("up_for_retry", "running", True),
        (None, "running", True),
        ("success", "running", False),
        ("scheduled", "failed", False),
    ],
)
def test_a_stray_pool_stays_while_an_unfinished_task_is_in_it(
    script: ModuleType, run_text: Callable[[str, str], DagRun], task: str | None, run: str, stays: bool
) -> None:
    run_id = run_text("pools_hold", TEXT).run_id
    add("stray")
    with create_session() as session:
        mine = TaskInstance.run_id == run_id
        session.execute(update(TaskInstance).where(mine).values(state=task, pool="stray"))
        session.execute(update(DagRun).where(DagRun.run_id == run_id).values(state=run))

    removed, kept = script.sync(ONE)

    assert ("stray" in pools()) is stays
    assert (removed, kept) == (([], ["stray"]) if stays else (["stray"], []))
    with create_session() as session:
        session.execute(update(TaskInstance).where(mine).values(state="success"))
    script.sync(ONE)


def test_one_bad_pool_changes_none(script: ModuleType) -> None:
    script.sync(ONE)
    with pytest.raises(KeyError):
        script.sync({"warehouse": {"slots": 9, "description": "Loads"}, "bad": {"description": "no slots"}})
    assert pools()["warehouse"] == 4


@pytest.mark.parametrize(
    ("megabytes", "pool", "weight", "timeout"),
    [
        (100, "standard", 1, timedelta(minutes=30)),
        (100.5, "medium", 5, timedelta(minutes=30)),
        (1001, "large", 10, timedelta(hours=2)),
    ],
)
def test_the_volume_chooses_the_pool(megabytes: float, pool: str, weight: int, timeout: timedelta) -> None:
    from airflow.sdk import DAG, task

    with DAG("limited", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        task(**limits(megabytes))(lambda: None).override(task_id="heavy")()
        task(**limits(megabytes, pool_slots=2))(lambda: None).override(task_id="double")()
    heavy = dag.get_task("heavy")

    assert (heavy.pool, heavy.priority_weight, heavy.execution_timeout) == (pool, weight, timeout)
    assert heavy.weight_rule == "absolute", "else the weights of what comes after would be added"
    assert dag.get_task("double").pool_slots == 2
    assert pool in load_pools()
