"""What is written of an upgrade, and which states are passed on the present way."""

import json

from airflow_ops.colours.record import Passage, Phase, Record, Side, State, now
from airflow_ops.manifests.objects import Colour

BLUE, GREEN = Colour.BLUE, Colour.GREEN


def side(colour: Colour) -> Side:
    return Side(colour=colour, version="3.3.2", image="airflow:1", replicas={"scheduler": 1, "api-server": 2})


def record(*passages: tuple[State, Colour, bool]) -> Record:
    made = [Passage(state=s, to=to, began=now(), ended=now() if ended else None) for s, to, ended in passages]
    return Record(id="1", source=side(BLUE), target=side(GREEN), digest="d", passages=made)


def test_it_is_read_as_it_was_written() -> None:
    written = record((State.WARM, GREEN, True), (State.SWITCH, GREEN, False))
    assert Record.model_validate_json(written.model_dump_json()) == written


def test_a_state_that_was_cut_off_is_not_passed() -> None:
    found = record((State.PREPARE, GREEN, True), (State.SWITCH, GREEN, False))
    assert found.is_done(State.PREPARE, GREEN)
    assert not found.is_done(State.SWITCH, GREEN)


def test_what_waits_is_looked_after_until_it_works() -> None:
    warmed = [(State.WARM, GREEN, True), (State.SWITCH, GREEN, True)]
    assert not record(*warmed).is_done(State.WARM, GREEN)
    assert record(*warmed, (State.QUIESCE, GREEN, True)).is_done(State.WARM, GREEN)


def test_on_the_way_back_nothing_is_passed_yet() -> None:
    found = record((State.SWITCH, GREEN, True), (State.QUIESCE, GREEN, True), (State.SWITCH, BLUE, True))
    assert found.is_done(State.SWITCH, BLUE)
    assert not found.is_done(State.QUIESCE, BLUE)


def test_a_state_counts_on_the_present_way_only() -> None:
    found = record((State.SWITCH, GREEN, True), (State.SWITCH, BLUE, True))
    assert not found.is_done(State.SWITCH, GREEN), "since then the way led back"


def test_what_was_cut_off_is_known_by_the_state_that_runs_now() -> None:
    once = record((State.PREPARE, GREEN, False))
    assert once.cut_off(State.PREPARE, GREEN) is None
    again = record((State.PREPARE, GREEN, False), (State.PREPARE, GREEN, False))
    assert again.cut_off(State.PREPARE, GREEN) == again.passages[0].began
    assert again.cut_off(State.HANDOVER, GREEN) is None


def test_an_upgrade_is_open_until_it_is_promoted_or_rolled_back() -> None:
    found = record()
    for phase, is_open in {
        Phase.UPGRADING: True,
        Phase.SOAKING: True,
        Phase.ROLLING_BACK: True,
        Phase.ROLLED_BACK: False,
        Phase.PROMOTED: False,
    }.items():
        found.phase = phase
        assert found.is_open is is_open, phase


def test_a_record_with_a_number_of_import_errors_can_be_read() -> None:
    assert Record.model_validate({**json.loads(record().model_dump_json()), "import_errors": 3}).import_errors == []
