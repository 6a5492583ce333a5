"""What a step does with what it finds; tests/e2e/test_upgrade.py runs the steps on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import Probed, Record, Side
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import migration, prober, queue_hold, steps, token_check
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


def test_what_somebody_has_added_to_the_idle_colour_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm leaves a field in place that the chart does not set. A Deployment that runs something is not touched."""
    done: list[str] = []
    found = [
        SimpleNamespace(
            metadata=SimpleNamespace(name=name, labels={"component": name}), spec=SimpleNamespace(replicas=n)
        )
        for name, n in (("scheduler", 0), ("api-server", 2))
    ]
    apps = SimpleNamespace(
        list_namespaced_deployment=lambda *_, **__: SimpleNamespace(items=found),
        delete_namespaced_deployment=lambda name, _: done.append(f"delete {name}"),
    )
    cluster = SimpleNamespace(apps=apps, namespace="airflow-dev", environment=Environment("dev"))
    monkeypatch.setattr(steps.helm, "install", lambda _, release, *__: done.append(f"install {release.name}"))
    monkeypatch.setattr(live, "suspend", lambda *_: None)
    sides = {colour: Side(colour=colour, version="3.3.2", image="i", replicas={}) for colour in Colour}
    record = Record(id="1", source=sides[Colour.BLUE], target=sides[Colour.GREEN], digest="d")
    monkeypatch.setattr(migration, "give_rights", lambda _cluster: None)
    Move(cast(Cluster, cluster), record, record.target).prepare()
    assert done == ["delete scheduler", "install airflow-green"]


NAMES = ("page", "REST, logged in")


def counted(requests: int, failed: int) -> dict[str, Probed]:
    """As many requests of each kind; those that failed are of the last kind, after the first one of before."""
    failures = ["1.0 status 500", *["2.0 status 403"] * failed]
    page, rest = (Probed(requests=requests) for _ in NAMES)
    rest.failed, rest.failures = failed + 1, failures
    return {"page": page, "REST, logged in": rest}


def switched(monkeypatch: pytest.MonkeyPatch, to: Colour, *looks: dict[str, Probed]) -> list[str]:
    """Switch users, with what the prober has counted at each look; gives what was done."""
    found = iter(looks)
    done: list[str] = []
    last = looks[-1]
    monkeypatch.setattr(prober, "counted_so_far", lambda *_: next(found, last))
    monkeypatch.setattr(token_check, "check", lambda _, source, target: done.append(f"{source} tokens at {target}"))
    monkeypatch.setattr(live, "point", lambda _, services, colour: done.append(f"lead to {colour}"))
    monkeypatch.setattr(steps, "ANSWER_SECONDS", 0)
    sides = {colour: Side(colour=colour, version="3.3.2", image="i", replicas={}) for colour in Colour}
    record = Record(id="1", source=sides[Colour.BLUE], target=sides[Colour.GREEN], digest="d")
    Move(Cluster(Environment("dev"), "test"), record, sides[to]).switch()
    return done


def test_api_servers_that_refuse_most_requests_of_a_kind_are_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ProblemError, match=r"20 of 30 requests failed, the first with 2.0 status 403 \(REST, logged in\)"
    ):
        switched(monkeypatch, Colour.GREEN, counted(100, 0), counted(130, 20))


@pytest.mark.parametrize(
    ("to", "looks"),
    [
        (Colour.GREEN, [counted(100, 0), counted(130, 0)]),
        (Colour.GREEN, [counted(100, 0), counted(130, 10)]),  # a moment, which VERIFY judges
        (Colour.GREEN, [counted(100, 50), counted(130, 50)]),  # those were before
        (Colour.GREEN, [{}, {}]),  # no prober
        (
            Colour.BLUE,
            [counted(100, 0), counted(130, 30)],
        ),  # A rollback does not look at requests: it could not go back to anything better.
    ],
)
def test_others_are_not(monkeypatch: pytest.MonkeyPatch, to: Colour, looks: list[dict[str, Probed]]) -> None:
    done = switched(monkeypatch, to, *looks)
    assert done == [*(["blue tokens at green"] if to is Colour.GREEN else []), f"lead to {to}"]


@pytest.mark.parametrize(("migrates", "forward", "gives"), [(False, True, 1), (True, True, 0), (False, False, 0)])
def test_the_new_components_have_their_rights_before_they_start(
    monkeypatch: pytest.MonkeyPatch, migrates: bool, forward: bool, gives: int
) -> None:
    """A migration gives them itself; on the way back the older ones have had theirs."""
    given: list[Cluster] = []
    monkeypatch.setattr(migration, "give_rights", given.append)
    monkeypatch.setattr(live, "remove_idle", lambda *_: None)
    monkeypatch.setattr(live, "suspend", lambda *_: None)
    monkeypatch.setattr(Move, "_install", lambda *_: None)
    sides = {colour: Side(colour=colour, version="3.3.2", image="i", replicas={}) for colour in Colour}
    record = Record(id="1", source=sides[Colour.BLUE], target=sides[Colour.GREEN], digest="d", migrates=migrates)
    Move(Cluster(Environment.load("dev"), "test"), record, record.target if forward else record.source).prepare()
    assert len(given) == gives
