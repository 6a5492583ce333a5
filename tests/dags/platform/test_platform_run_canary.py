"""The canary, run whole, and its verdict on each way in which a run can be wrong."""

from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

RIGHT = {"plain": "ran", "squares": [1, 4, 9], "tries": {"this": 2, "last": 2}, "moment": "2013-01-15T06:00:00+00:00"}


def test_a_run_goes_through_every_kind_of_task(run_dag: Callable[..., DagRun]) -> None:
    run = run_dag("platform_run_canary")

    assert run.state == "success"
    tries = {(ti.task_id, ti.map_index): ti.try_number for ti in run.get_task_instances()}
    assert tries["retry", -1] == 2
    assert {index for task_id, index in tries if task_id == "square"} == {0, 1, 2}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"plain": None}, "plain task"),
        ({"squares": [1, 4]}, "mapped task"),
        ({"tries": {"this": 1, "last": 1}}, "retrying task: succeeded in try 1 of 1"),
        ({"moment": None}, "triggerer"),
    ],
)
def test_it_fails_and_names_what_is_broken(load_dag: Callable[[str], DAG], wrong: dict[str, Any], named: str) -> None:
    verify = load_dag("platform_run_canary").get_task("verify").python_callable

    verify(**RIGHT)
    with pytest.raises(AirflowFailException, match=named):
        verify(**{**RIGHT, **wrong})
