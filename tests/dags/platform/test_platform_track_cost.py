"""What a day cost: from task instances as Airflow's own REST API has them, to rows and a page."""

import datetime as dt
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import update

from airflow_ops.paths import DAGS
from shared.authoring.resources import resources
from shared.watching.cost import amount, costs_of, load_prices

DAY = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
TEXT = """
from airflow.sdk import dag, task
from shared.authoring.resources import resources

@dag(schedule=None, default_args={"owner": "sales"})
def sales_count_cost():
    @task(executor_config=resources("large"))
    def heavy():
        pass
    @task
    def light(number):
        pass
    heavy() >> light.expand(number=[1, 2])

sales_count_cost()
"""


def test_the_price_of_a_size_is_that_of_its_requests() -> None:
    prices = load_prices()
    small, spot, default = prices.hourly("small"), prices.hourly("spot"), prices.hourly("default")
    assert small == pytest.approx(0.1 * prices.cpu_core_hour + 0.3125 * prices.memory_gib_hour)
    assert spot == pytest.approx(default * prices.size_share["spot"]), "the same requests on cheaper nodes"
    assert (amount("250m"), amount("1Gi"), amount(2)) == (0.25, 2**30, 2.0)


def instance(**changes: Any) -> dict[str, Any]:
    basic = {"dag_id": "d", "task_id": "t", "executor_config": "{}", "try_number": 1, "duration": 60.0}
    return {**basic, **changes}


def test_every_try_and_every_mapped_instance_counts_and_what_never_ran_does_not() -> None:
    retried = instance(try_number=3, task_id="retried", executor_config=str(resources("large")))
    found = costs_of(
        [instance(map_index=0), instance(map_index=1), instance(task_id="skipped", duration=None), retried],
        {"d": "sales"},
        lambda _: [instance(duration=10.0), instance(duration=20.0), instance(duration=None)],
    )
    assert [(one.task_id, one.size, one.tries, one.seconds) for one in found] == [
        ("retried", "large", 2, 30.0),
        ("skipped", "default", 0, 0),
        ("t", "default", 2, 120.0),
    ]
    assert {one.team for one in found} == {"sales"}


@pytest.fixture
def day(run_text: Callable[[str, str], DagRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of one large task and two mapped ones that ended on the day, and one of another DAG just after it."""
    ends = {"sales_count_cost": DAY + dt.timedelta(hours=5), "sales_count_later": DAY + dt.timedelta(days=1)}
    for dag_id, end in ends.items():
        run_id = run_text(dag_id, TEXT.replace("sales_count_cost", dag_id)).run_id
        with create_session() as session:
            mine = update(TaskInstance).where(TaskInstance.run_id == run_id)
            session.execute(mine.values(end_date=end, start_date=end - dt.timedelta(hours=1), duration=3600.0))
    monkeypatch.delenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST")  # from here on this repository's DAGs


def rows(platform: Any) -> list[tuple[Any, ...]]:
    with sqlite3.connect(platform.warehouse) as database:
        sql = "SELECT team, dag_id, task_id, size, tries, seconds, cost FROM task_costs WHERE dag_id LIKE 'sales_%'"
        return sorted(database.execute(sql).fetchall())


def test_a_day_becomes_rows_and_a_page_and_the_same_again(
    served: Any, day: None, run_dag: Callable[..., DagRun], platform: Any
) -> None:
    prices = load_prices()
    wanted = [
        ("sales", "sales_count_cost", "heavy", "large", 1, 3600.0, pytest.approx(prices.hourly("large"))),
        ("sales", "sales_count_cost", "light", "default", 2, 7200.0, pytest.approx(2 * prices.hourly("default"))),
    ]
    for _ in range(2):
        assert run_dag("platform_track_cost", logical_date=DAY).state == "success"
        assert rows(platform) == wanted
    page = (platform.object_storage / "reports/cost/2026-03-04/index.html").read_text()
    assert (
        f"<td>sales</td><td>sales_count_cost</td><td>{prices.hourly('large') + 2 * prices.hourly('default'):.4f}"
        in page
    )
    assert "<td>heavy</td><td>large</td>" in page


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cpu_core_hour": "cheap"}, "cpu_core_hour: expected a number, found 'cheap'"),
        ({"memory_gib_hour": 0}, "memory_gib_hour: expected greater than 0, found 0"),
        ({"size_share": {"huge": 1}}, r"size_share.huge.*: size 'huge' does not exist"),
        ({"colour": "red"}, "colour: unknown key"),
    ],
)
def test_a_wrong_price_is_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((DAGS / "config/prices.yaml").read_text()), **change}))
    with pytest.raises(ValueError, match=rf"prices.yaml: {reason}"):
        load_prices(path)
