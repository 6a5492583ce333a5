"""`flights_train_delays`: a model is deployed only if it is good enough."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.sdk.exceptions import AirflowFailException

from flights.library import delay_model
from shared.composing.task_groups import STAGES

DAY = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
NO_DAY = dt.datetime(2013, 2, 1, tzinfo=dt.UTC)


def states(run: DagRun) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


@pytest.mark.usefixtures("first_of_january")
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


def test_a_month_without_flights_fails_at_once(run_dag: Callable[..., DagRun], first_of_january: None) -> None:
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
