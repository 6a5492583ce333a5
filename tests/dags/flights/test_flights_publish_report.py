"""`flights_publish_report`: it waits for the report and copies it."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagrun import DagRun

from shared.composing.waiting import ObjectSensor


def test_the_dag_publishes_a_report_that_comes_later(
    run_dag: Callable[..., DagRun], storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = storage / "reports/flights/2013-01/index.html"
    report.parent.mkdir(parents=True)
    make = ObjectSensor.make_trigger

    def make_quick(self: Any) -> Any:
        """The worker looks and finds nothing; then the report is written, and the triggerer's copy finds it."""
        self.poke_interval, self.stable_seconds = 0.02, 0.0
        trigger = make(self)
        look = trigger.probe
        trigger.probe = lambda: (look(), report.write_text("<html>" + "x" * 2000))[0]
        return trigger

    monkeypatch.setattr(ObjectSensor, "make_trigger", make_quick)
    run = run_dag("flights_publish_report", dt.datetime(2013, 1, 1, tzinfo=dt.UTC))
    assert run.state == "success"
    assert (storage / "published/flights/2013-01.html").read_text() == report.read_text()
