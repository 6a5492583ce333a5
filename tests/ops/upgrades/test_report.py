"""What `status` shows of an upgrade; the cluster is a fake."""

import io
from collections.abc import Iterator
from datetime import timedelta

import pytest
from kubernetes.client.exceptions import ApiException
from rich.console import Console

from airflow_ops.colours.record import Passage, Phase, Record, Side, State, now
from airflow_ops.console import out
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import report
from support.command_line import airflow_ops

SIDES = [Side(colour=colour, version="3.3.2", image="airflow:1", replicas={"scheduler": 1}) for colour in Colour]


def record(phase: Phase, *passages: tuple[State, bool]) -> Record:
    began = now() - timedelta(seconds=90)
    made = [
        Passage(state=state, to=Colour.GREEN, began=began, ended=began + timedelta(seconds=12) if ended else None)
        for state, ended in passages
    ]
    return Record(id="1", phase=phase, source=SIDES[0], target=SIDES[1], digest="d", passages=made)


def status(found: Record | None, operation: str = "upgrade by somebody") -> report.Status:
    return report.Status(
        environment="dev",
        active=Colour.BLUE,
        operation=operation,
        components={"blue": {"scheduler": {"replicas": 1, "ready": 1}}, "green": {}},
        record=found,
    )


def shown(found: Record | None) -> str:
    console = Console(file=io.StringIO(), width=200)
    for each in status(found).lines():
        console.print(each)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[report.Status | Exception]]:
    """What the cluster answers to one look after the other."""
    answers: list[report.Status | Exception] = []

    def look(_cluster: object) -> report.Status:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(report, "connect", lambda _environment: None)
    monkeypatch.setattr(report, "_look", look)
    monkeypatch.setattr(report, "WATCH_SECONDS", 0)
    yield answers
    assert not answers, "it looked until the end, and no longer"


def test_the_state_that_runs_shows_how_long_and_others_that_they_did_not_end() -> None:
    text = shown(record(Phase.UPGRADING, (State.PREPARE, True), (State.WARM, False), (State.WARM, False)))
    rows = [line.split() for line in text.splitlines() if line.startswith(("PREPARE", "WARM"))]
    assert [row[3:] for row in rows] == [["12.0"], ["not", "ended"], ["90", "so", "far"]]
    assert "1 of 1 ready" in text
    assert "operation: upgrade by somebody" in text


def test_what_soaks_has_no_state_that_runs() -> None:
    assert "so far" not in shown(record(Phase.SOAKING, (State.PREPARE, True), (State.WARM, False)))


def test_without_an_upgrade_it_says_so() -> None:
    assert "there was no upgrade yet" in shown(None)


def test_in_a_pipe_a_watch_prints_each_state_once(
    looks: list[report.Status | Exception], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepares, warms = (record(Phase.UPGRADING, (state, False)) for state in (State.PREPARE, State.WARM))
    before, soaks = record(Phase.ROLLED_BACK, (State.FINALIZE, True)), record(Phase.SOAKING, (State.WARM, True))
    away = ApiException(status=503)
    looks.extend([status(before), status(prepares), away, status(prepares), status(warms), status(soaks, "")])
    monkeypatch.setattr(out, "_force_terminal", False)
    report.watch_status(Environment("dev"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["checks before an upgrade", "upgrading: PREPARE (green)", "upgrading: WARM (green)"]
    assert sum("upgrade from blue" in line for line in lines) == 1, "the whole picture once, at the end"


def test_a_watch_ends_where_nobody_works(
    looks: list[report.Status | Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    looks.append(status(record(Phase.UPGRADING, (State.WARM, False)), ""))
    report.watch_status(Environment("dev"))
    assert "nobody works on it" in capsys.readouterr().err


def test_a_watch_ends_where_the_cluster_stays_away(
    looks: list[report.Status | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PATIENCE_SECONDS", 0)
    looks.extend([status(record(Phase.UPGRADING, (State.WARM, False))), ApiException(status=503)])
    with pytest.raises(ApiException):
        report.watch_status(Environment("dev"))


@pytest.mark.parametrize("arguments", [["--watch"], ["dev", "--watch", "--json"]])
def test_a_watch_is_for_people_and_an_environment(arguments: list[str]) -> None:
    refused = airflow_ops("status", *arguments)
    assert refused.returncode == 2
    assert "--watch is for an environment" in refused.stderr
