"""dags/config/trials.yaml: every DAG has a trial, in an order in which each comes after those that it needs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.console import ProblemError
from airflow_ops.dags import trials
from airflow_ops.dags.inspection import inspect_bundle
from airflow_ops.paths import DAGS


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(content: dict[str, Any]) -> None:
        (tmp_path / "trials.yaml").write_text(yaml.dump(content))

    monkeypatch.setattr(trials, "FILE", tmp_path / "trials.yaml")
    return write


def test_every_dag_has_a_trial_after_those_it_needs() -> None:
    found = trials.load_trials([])
    order = [trial.dag_id for trial in found]
    assert set(order) == set(trials.dag_ids())
    for trial in found:
        assert all(order.index(before) < order.index(trial.dag_id) for before in trial.after), trial
    assert {"success", "failed"} == {trial.end for trial in found}
    tasks = {dag.dag_id: {task.task_id for task in dag.tasks} for dag in inspect_bundle(DAGS, None).dags}
    assert {trial.dag_id: set(trial.tasks) - tasks[trial.dag_id] for trial in found if trial.tasks} == {
        trial.dag_id: set() for trial in found if trial.tasks
    }


def test_a_dag_without_an_entry_has_to_succeed_and_only_what_is_wanted_runs(written: Any) -> None:
    written({"flights_slice_ewr": [{"partition": "2013-01-15", "after": ["flights_ingest_daily"]}]})
    assert [(t.dag_id, t.end) for t in trials.load_trials(["flights_slice_ewr"])] == [("flights_slice_ewr", "success")]
    assert [t.dag_id for t in trials.load_trials(["flights_slice_ewr", "flights_ingest_daily"])] == [
        "flights_ingest_daily",
        "flights_slice_ewr",
    ]


def test_the_partition_today_is_the_present_day(written: Any) -> None:
    written({"platform_track_cost": [{"partition": "today"}]})
    before = datetime.now(UTC).date().isoformat()
    found = trials.load_trials(["platform_track_cost"])[0].partition
    assert found in (before, datetime.now(UTC).date().isoformat())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"flights_load_nothing": [{}]}, "trials.yaml: there is no DAG 'flights_load_nothing'"),
        ({"flights_count_day": [{"ends": "failed"}]}, "trials.yaml: flights_count_day.0.ends: unknown key"),
        (
            {"flights_count_day": [{"end": "broken"}]},
            "flights_count_day.0.end: should be 'success' or 'failed'",
        ),
        ({"flights_count_day": [{"after": ["x_y_z"]}]}, "after: there is no DAG x_y_z"),
        (
            {
                "flights_count_day": [{"after": ["flights_slice_ewr"]}],
                "flights_slice_ewr": [{"after": ["flights_count_day"]}],
            },
            "flights_count_day -> flights_slice_ewr -> flights_count_day",
        ),
    ],
)
def test_a_wrong_file_is_named(written: Any, content: dict[str, Any], reason: str) -> None:
    written(content)
    with pytest.raises(ProblemError, match=reason):
        trials.load_trials([])
