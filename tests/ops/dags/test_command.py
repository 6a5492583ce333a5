"""`airflow-ops dags`: what needs no running Airflow. tests/local runs the rest against one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_ops.console import ProblemError
from airflow_ops.dags import lint, trials
from airflow_ops.dags.inspector import percentile
from airflow_ops.dags.rules import Violation
from airflow_ops.paths import ROOT


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
    with pytest.raises(ProblemError, match="'flights_load_nothing': there is no"):
        lint.files_of(["flights_load_nothing"])


def test_a_violation_leads_to_its_line() -> None:
    assert lint.where(Violation("flights/a.py", "pool", "wrong", 7)) == "dags/flights/a.py:7: pool: wrong"
    assert lint.where(Violation("flights/a.py", "import", "wrong")) == "dags/flights/a.py: import: wrong"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["test", "flights_load_nothing"], "'flights_load_nothing': there is no"),
        (["test", "platform_call_api", "--partition", "yesterday"], "'yesterday' is neither a day nor a month"),
        (["test", "platform_call_api", "--conf", "[1]"], "not a JSON object"),
        (["test", "platform_call_api", "--conf", "{"], "not JSON"),
        (["run-all", "flights_load_nothing"], "there is no DAG 'flights_load_nothing'"),
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
