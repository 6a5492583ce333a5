"""`airflow-ops dags new`: the DAG that it writes keeps every rule and runs; a wrong call writes nothing."""

import ast
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

from airflow_ops.console import ProblemError
from airflow_ops.dags import scaffold
from airflow_ops.dags.inspection import inspect_bundle
from airflow_ops.paths import DAGS

DAG_ID = "flights_export_carriers_v2"


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that has the library and no DAG."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("shared", "config"):
        shutil.copytree(DAGS / name, folder / "dags" / name)
    shutil.copy(DAGS / ".airflowignore", folder / "dags")
    monkeypatch.setattr(scaffold, "ROOT", folder)
    monkeypatch.setattr(scaffold, "DAGS", folder / "dags")
    return folder


def written(checkout: Path) -> list[str]:
    return sorted(str(path.relative_to(checkout)) for path in checkout.rglob(f"*{DAG_ID}*.py"))


@pytest.mark.parametrize("schedule", [None, "0 5 * * *"])
def test_what_it_writes_keeps_every_rule(checkout: Path, schedule: str | None) -> None:
    paths = scaffold.scaffold(DAG_ID, "flights", schedule)

    assert paths == written(checkout) == [f"dags/flights/{DAG_ID}.py", f"tests/dags/flights/test_{DAG_ID}.py"]
    found = inspect_bundle(checkout / "dags", set())
    assert [str(violation) for violation in found.violations] == []
    assert [(dag.dag_id, dag.schedule) for dag in found.dags] == [(DAG_ID, schedule or "-")]


def test_the_dag_runs_and_its_test_passes(
    checkout: Path, run_text: Callable[[str, str], DagRun], platform: Any
) -> None:
    dag, test = (checkout / path for path in scaffold.scaffold(DAG_ID, "flights", None))
    names: dict[str, Any] = {}
    exec(compile(ast.parse(test.read_text()), str(test), "exec"), names)  # noqa: S102  the template is our own

    names["test_the_rows_are_published_and_nothing_stays_in_staging"](
        lambda dag_id: run_text(dag_id, dag.read_text()), platform, "first"
    )


@pytest.mark.parametrize(
    ("dag_id", "owner", "schedule", "reason"),
    [
        ("flights", "flights", None, "{domain}_{action}_{target}"),
        ("flights_export", "flights", None, "{domain}_{action}_{target}"),
        ("Flights_export_carriers", "flights", None, "small letters"),
        ("flights_export_carriers-2", "flights", None, "small letters"),
        ("shared_export_carriers", "flights", None, "'shared' is the folder of what all domains share"),
        ("config_export_carriers", "flights", None, "'config' is the folder of what all domains share"),
        ("statistics_export_carriers", "flights", None, "'statistics' is a module of Python's standard library"),
        ("kubernetes_export_pods", "flights", None, "'kubernetes' is an installed package"),
        ("class_export_carriers", "flights", None, "'class' is a word of Python's own"),
        ("sales_export_carriers", "sales", None, "there is no domain 'sales'"),
        ("flights_export_" + "x" * 250, "flights", None, "in at most 200 small letters"),
        ("flights_export_carriers", "airflow", None, "--owner 'airflow' is not a team"),
        ("flights_export_carriers", 'x"), 1', None, "is not a team"),
        ("flights_export_carriers", "flights", "daily", "not a cron expression"),
    ],
)
def test_a_wrong_call_writes_nothing(
    checkout: Path, dag_id: str, owner: str, schedule: str | None, reason: str
) -> None:
    with pytest.raises(ProblemError, match=reason):
        scaffold.scaffold(dag_id, owner, schedule)
    assert not list(checkout.glob("dags/flights"))
    assert not list(checkout.glob("tests"))


def test_where_the_test_cannot_be_written_there_is_no_dag(checkout: Path) -> None:
    (checkout / "tests/dags").mkdir(parents=True)
    (checkout / "tests/dags/flights").write_text("a file where the folder should be")
    with pytest.raises(ProblemError, match="tests/dags/flights cannot be written"):
        scaffold.scaffold(DAG_ID, "flights", None)
    assert not list(checkout.glob("dags/flights"))


def test_what_is_there_is_not_replaced(checkout: Path) -> None:
    test = checkout / f"tests/dags/flights/test_{DAG_ID}.py"
    test.parent.mkdir(parents=True)
    test.write_text("mine")
    with pytest.raises(ProblemError, match="exists already"):
        scaffold.scaffold(DAG_ID, "flights", None)
    assert test.read_text() == "mine"
    assert written(checkout) == [f"tests/dags/flights/test_{DAG_ID}.py"]
