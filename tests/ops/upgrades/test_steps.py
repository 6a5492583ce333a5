"""What a step does with what it finds; tests/e2e/test_upgrade.py runs the steps on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any, cast

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import Record, Side
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import queue_hold
from airflow_ops.upgrades.steps import Move


class News(queue_hold.View):
    """A look at a database in which one task is queued; nothing is alive."""

    def refresh(self, seconds: float = 10) -> None:
        self.read('{"queued": [["load", "run", "extract", -1, 1, 1000000.0]], "alive": []}')


def test_a_queue_without_room_is_told_and_does_not_stop_the_handover(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def watch(_cluster: Cluster, *, hold: bool) -> Iterator[queue_hold.View]:
        assert hold
        yield News(cast(Any, None), StringIO())

    scaled: dict[str, int] = {}
    monkeypatch.setattr(queue_hold, "watch", watch)
    monkeypatch.setattr(queue_hold, "drain", lambda _cluster, view, _seconds: view.refresh() or view.queued)
    monkeypatch.setattr(live, "scale", lambda _cluster, _colour, replicas: scaled.update(replicas))
    monkeypatch.setattr(live, "wait_until_gone", lambda *_: None)
    sides = {colour: Side(colour=colour, version="3.3.2", image="i", replicas={}) for colour in Colour}
    record = Record(id="1", source=sides[Colour.BLUE], target=sides[Colour.GREEN], digest="d")
    Move(Cluster(Environment("dev"), "test"), record, record.target).quiesce()
    assert "1 queued task has no pod after 30 s (load.extract): queued again later" in capsys.readouterr().out
    assert scaled == {"scheduler": 0, "dag-processor": 0, "triggerer": 0}
