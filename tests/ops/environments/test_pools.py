"""dags/config/pools.yaml is right, and a mistake in such a file is named by its key."""

from pathlib import Path

import pytest

from airflow_ops.console import ProblemError
from airflow_ops.environments.pools import load_pools


def test_the_repositorys_pools_are_right() -> None:
    assert load_pools()["warehouse"]["slots"] == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x: {slots: 1, description: d, colour: red}", "x.colour: unknown key"),
        ("x: {slots: one, description: d}", "x.slots: should be a valid integer, found 'one'"),
        ("x: {slots: true, description: d}", "x.slots: should be a valid integer, found True"),
        ("x: {slots: 1}", "x.description: missing"),
        ("x: {slots: 0, description: d}", "x.slots: a task needs at least one slot, found 0"),
        ("x: 3", "x: should be a map, found 3"),
        ("default_pool: {slots: 1, description: d}", "default_pool: Airflow's own"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "pools.yaml").write_text(text)
    with pytest.raises(ProblemError, match=reason):
        load_pools(tmp_path / "pools.yaml")
