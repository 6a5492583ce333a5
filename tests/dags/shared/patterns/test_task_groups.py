"""Task groups at work: a load with its checks, and a model that is deployed only if it is good enough."""

import datetime as dt
import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.sdk.exceptions import AirflowFailException

from flights.library import delay_model, marts
from shared.patterns.task_groups import COMPARISONS, STAGES, QualityRule, require, share_without

DAY = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
NO_DAY = dt.datetime(2013, 2, 1, tzinfo=dt.UTC)
FLIGHTS = 842


@pytest.fixture
def loaded(run_dag: Callable[..., DagRun], source: Any) -> None:
    """The first of January is in the warehouse."""
    assert run_dag("flights_ingest_daily", DAY).state == "success"


def states(run: DagRun) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


def rows(platform: Any, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(platform.warehouse) as database:
        return database.execute(sql).fetchall()


@pytest.mark.parametrize(("comparison", "passing"), [(">=", {2, 3}), ("<=", {1, 2}), (">", {3}), ("<", {1})])
def test_a_rule_compares_as_it_says(comparison: Any, passing: set[int]) -> None:
    assert set(COMPARISONS) == {">=", "<=", ">", "<"}
    found = {n for n in (1, 2, 3) if QualityRule("n", len, 2, comparison).judge([{}] * n).passed}
    assert found == passing


def test_an_error_stops_and_a_warning_does_not() -> None:
    rule, nothing = share_without("a"), {"a": None}
    assert (rule([nothing, {"a": 1}]), rule([])) == (0.5, 0.0)
    warning = QualityRule("few", rule, 0.1, "<=", "warning").judge([nothing])
    assert not warning.passed
    require([warning])
    with pytest.raises(AirflowFailException, match="few is 1, wanted <= 0.1"):
        require([QualityRule("few", rule, 0.1, "<=").judge([nothing])])


@pytest.mark.usefixtures("loaded")
def test_a_day_becomes_its_marts_and_again_the_same(run_dag: Callable[..., DagRun], platform: Any) -> None:
    names = [table.name for table in (marts.CARRIER_DAYS, marts.ROUTE_DAYS, marts.ORIGIN_DAYS)]
    found = []
    for _ in range(2):
        run = run_dag("flights_build_marts", DAY)
        assert set(states(run).values()) == {"success"}
        found.append([rows(platform, f"SELECT * FROM {name} ORDER BY 1, 2, 3") for name in names])  # noqa: S608
    assert found[0] == found[1]
    for name in names:
        assert rows(platform, f"SELECT SUM(flights) FROM {name}") == [(FLIGHTS,)]  # noqa: S608
    checks = rows(platform, "SELECT DISTINCT check_name FROM quality_results WHERE table_name LIKE 'flights_%_days'")
    assert {name for (name,) in checks} == {"carriers_there", "carriers_without_delay", "routes_there", "all_origins"}
    staged = platform.object_storage / "staging/flights_build_marts"
    assert [path for path in staged.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("loaded")
def test_a_group_whose_rows_break_a_rule_loads_nothing(run_dag: Callable[..., DagRun], platform: Any) -> None:
    run = run_dag("flights_build_marts", NO_DAY)
    found = states(run)
    assert run.state == "failed"
    assert found["carriers.quality_check"] == found["routes.quality_check"] == "failed"
    assert found["carriers.load"] == found["origins.extract"] == "upstream_failed"
    assert found["carriers.remove_staging"] == "success"


@pytest.mark.usefixtures("loaded")
def test_what_the_validation_refuses_stops_what_depends_on_it(
    run_dag: Callable[..., DagRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marts, "as_counted", lambda table: "SELECT 0")
    found = states(run_dag("flights_build_marts", DAY))
    assert (found["carriers.load"], found["carriers.validate"]) == ("success", "failed")
    assert found["origins.extract"] == "upstream_failed"


@pytest.mark.usefixtures("loaded")
def test_a_good_model_is_deployed_and_a_bad_one_leaves_it(run_dag: Callable[..., DagRun], platform: Any) -> None:
    models = platform.object_storage / "models/flights_delay"
    run = run_dag("flights_train_delays", DAY, conf={"min_accuracy": 0.8})  # one day is little to learn from
    found = states(run)
    assert run.state == "success", found
    assert {f"delays.{stage}.{step}" for stage, steps in STAGES.items() for step in steps} < set(found)
    good = (models / "deployed.json").read_text()
    assert 0.8 <= json.loads(good)["accuracy"] < delay_model.MIN_ACCURACY

    run = run_dag("flights_train_delays", DAY)
    found = states(run)
    assert (run.state, found["remove_staging"]) == ("failed", "success")
    assert found["delays.model_training.validate"] == "failed"
    assert found["delays.model_deployment.deploy"] == "upstream_failed"
    assert (models / "deployed.json").read_text() == good
    assert len(list(models.glob("2013-01/*.json"))) == 1, "what failed is not registered"


def test_a_month_without_flights_fails_at_once(run_dag: Callable[..., DagRun], loaded: None) -> None:
    found = states(run_dag("flights_train_delays", NO_DAY))
    assert found["delays.data_preparation.extract_features"] == "failed"
    assert found["delays.model_training.train"] == "upstream_failed"


def test_a_model_that_has_learnt_nothing_is_not_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    x, y = np.zeros((10, 3)), np.array([0.0] * 9 + [60.0])  # always "not late" is right nine times in ten
    model = delay_model.fit(x, y, 1.0)
    assert delay_model.accuracy(model, x, y) == 0.9
    monkeypatch.setattr(delay_model, "_arrays", lambda uri: (x, y))
    monkeypatch.setattr(delay_model, "get_current_context", lambda: {"dag_run": type("Run", (), {"conf": None})})
    with pytest.raises(AirflowFailException, match="no better than 0.9000"):
        delay_model.validate({"uris": {"test": ""}, "model": model})


def test_the_regression_finds_what_is_there() -> None:
    import numpy as np

    x = np.random.default_rng(1).normal(size=(200, 3))
    y = 5 + x @ np.array([2.0, -3.0, 0.5])
    assert np.abs(delay_model.predict(delay_model.fit(x, y, 0.0), x) - y).max() < 1e-9
    shrunk = delay_model.fit(x, y, 1e6)["weights"]
    assert abs(shrunk[1]) < 0.01
    assert abs(shrunk[0] - y.mean()) < 0.1
