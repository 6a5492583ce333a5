"""`airflow-ops dags`: what needs no running Airflow. tests/local runs the rest against one."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.console import ProblemError
from airflow_ops.dags import lint, trials
from airflow_ops.dags.inspection import inspect_bundle
from airflow_ops.dags.inspector import percentile
from airflow_ops.dags.rules import Violation
from airflow_ops.paths import DAGS, ROOT


def ops(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from airflow_ops.cli import main; main()", "dags", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_list_names_every_dag_with_what_it_asks_for() -> None:
    done = ops("list", "--json")
    assert done.returncode == 0, done.stderr
    found = {entry["dag_id"]: entry for entry in json.loads(done.stdout)}
    assert set(found) == set(trials.dag_ids())
    ingest = found["flights_ingest_daily"]
    assert (ingest["domain"], ingest["owners"], ingest["schedule"]) == ("flights", ["flights"], "0 0 * * *")
    assert (ingest["tasks"], ingest["sizes"], ingest["pools"]) == (
        4,
        ["default", "small"],
        ["default_pool", "warehouse"],
    )


def test_lint_of_one_dag_is_quick_and_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    done = ops("lint", "platform_call_api", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["violations"], [cost["file"] for cost in found["costs"]]) == ([], ["platform/platform_call_api.py"])

    (tmp_path / "stray.py").write_text("")
    with pytest.raises(ProblemError, match="is not in"):
        lint.files_of([str(tmp_path / "stray.py")])
    with pytest.raises(ProblemError, match="flights_load_nothing: there is no"):
        lint.files_of(["flights_load_nothing"])


def test_a_violation_leads_to_its_line() -> None:
    assert lint.where(Violation("flights/a.py", "pool", "wrong", 7)) == "dags/flights/a.py:7: pool: wrong"
    assert lint.where(Violation("flights/a.py", "import", "wrong")) == "dags/flights/a.py: import: wrong"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["test", "flights_load_nothing"], "flights_load_nothing: there is no"),
        (["test", "platform_call_api", "--partition", "yesterday"], "'yesterday' is neither a day nor a month"),
        (["test", "platform_call_api", "--conf", "[1]"], "not a JSON object"),
        (["test", "platform_call_api", "--conf", "{"], "not JSON"),
        (["run-all", "flights_load_nothing"], "there is no DAG flights_load_nothing"),
        (["new", "nonsense", "--owner", "flights"], "is not {domain}_{action}_{target}"),
    ],
)
def test_a_wrong_call_says_what_to_do(arguments: list[str], reason: str) -> None:
    done = ops(*arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "fix" in done.stderr


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 1.0)] == [50.0, 95.0, 100.0]
    assert percentile([7.0], 0.95) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


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
        ({"flights_load_nothing": [{}]}, "trials.yaml: there is no DAG flights_load_nothing"),
        ({"flights_count_day": [{"ends": "failed"}]}, "flights_count_day: unknown key 'ends'"),
        ({"flights_count_day": [{"end": "broken"}]}, "end is 'broken'"),
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
