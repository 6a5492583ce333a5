"""The states of an upgrade: what is written when, what a failure leads to, and where a killed command continues.

The steps are replaced by ones that only note that they ran; tests/e2e/test_upgrade.py runs the real ones on a cluster.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours.record import Phase, Record, RecordStore, Side, State
from airflow_ops.console import ProblemError, RefusalError, fail
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import machine, rehearsal
from airflow_ops.upgrades.steps import BACK, FORWARD, MIGRATION, Move

BLUE, GREEN = Colour.BLUE, Colour.GREEN
FORWARD_RAN = [f"{state} green" for state in FORWARD]
BACK_RAN = ["clean up", *(f"{state} blue" for state in (*BACK, State.FINALIZE))]


class KilledError(BaseException):
    """The command ends where it is."""


@dataclass
class World:
    """What ran, what is written, and what goes wrong.

    Attributes:
        ran: States that ran, with the colour that they led to.
        written: The record as it was written last.
        fails: States with the colour that they lead to, whose step fails.
        errors: The error of a step by its state and colour.
        killed: A state in which the command is killed.
        writes_left: Number of writes after which the command is killed.
    """

    ran: list[str] = field(default_factory=list)
    written: str = ""
    fails: set[str] = field(default_factory=set)
    errors: dict[str, Exception] = field(default_factory=dict)
    killed: str = ""
    writes_left: int = 10_000

    def step(self, name: str) -> None:
        if self.killed == name:
            raise KilledError
        self.ran.append(name)
        if name in self.errors:
            raise self.errors[name]
        if name in self.fails:
            raise fail(f"{name} went wrong.", "Mend it.")

    def write(self, record: Record) -> None:
        self.written = record.model_dump_json()
        self.writes_left -= 1
        if self.writes_left == 0:
            raise KilledError


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    def step(move: Move, state: State) -> Callable[[], None]:
        return lambda: made.step(f"{state} {move.to.colour}")

    @contextmanager
    def no_prober(_cluster: Cluster, _record: Record) -> Iterator[None]:
        yield

    monkeypatch.setattr(Move, "step", step)
    monkeypatch.setattr(machine, "probing", no_prober)
    monkeypatch.setattr(rehearsal, "clean_up", lambda _cluster, _record: made.ran.append("clean up"))
    monkeypatch.setattr(RecordStore, "write", lambda _self, record: made.write(record))
    return made


CLUSTER = Cluster(Environment("dev"), "test")


def new_record() -> Record:
    sides = {c: Side(colour=c, version="3.3.2", image="i", replicas={}) for c in Colour}
    return Record(id="1", source=sides[BLUE], target=sides[GREEN], digest="d")


def upgrade(record: Record) -> None:
    machine.go_forward(Move(CLUSTER, record, record.target), RecordStore(CLUSTER), lambda: True)


def rollback(record: Record) -> None:
    machine.go_back(Move(CLUSTER, record, record.source), RecordStore(CLUSTER))


def test_all_states_run_in_order_and_it_soaks(world: World) -> None:
    record = new_record()
    upgrade(record)
    assert world.ran == FORWARD_RAN
    assert Record.model_validate_json(world.written).phase is Phase.SOAKING
    assert [passage.state for passage in record.passages] == list(FORWARD)
    assert all(passage.ended for passage in record.passages)


@pytest.mark.parametrize("state", FORWARD)
def test_a_failure_in_any_state_leads_back(world: World, state: State) -> None:
    world.fails = {f"{state} green"}
    record = new_record()
    with pytest.raises(ProblemError, match=f"rolled back, because {state} green went wrong"):
        upgrade(record)
    assert world.ran == [*FORWARD_RAN[: list(FORWARD).index(state) + 1], *BACK_RAN]
    written = Record.model_validate_json(world.written)
    assert written.phase is Phase.ROLLED_BACK
    assert written.reason == f"{state} green went wrong."


def migrating_record() -> Record:
    record = new_record()
    record.migrates = True
    return record


def test_a_migration_comes_before_everything_else(world: World) -> None:
    upgrade(migrating_record())
    assert world.ran == [*(f"{state} green" for state in MIGRATION), *FORWARD_RAN]


@pytest.mark.parametrize("state", [State.SNAPSHOT, State.REHEARSE])
def test_a_rehearsal_that_fails_ends_the_upgrade_as_nothing_was_changed(world: World, state: State) -> None:
    world.fails = {f"{state} green"}
    with pytest.raises(ProblemError, match=f"ended before it changed anything: {state} green went wrong"):
        upgrade(migrating_record())
    assert not [name for name in world.ran if name.endswith("blue")]
    written = Record.model_validate_json(world.written)
    assert written.phase is Phase.ROLLED_BACK
    assert written.reason == f"{state} green went wrong."


def test_a_migration_that_fails_leads_back(world: World) -> None:
    world.fails = {"MIGRATE green"}
    with pytest.raises(ProblemError, match="rolled back, because MIGRATE green went wrong"):
        upgrade(migrating_record())
    assert world.ran == [*(f"{state} green" for state in MIGRATION), *BACK_RAN]


@pytest.mark.parametrize("state", [*BACK, State.FINALIZE])
def test_a_failure_on_the_way_back_can_be_continued(world: World, state: State) -> None:
    world.fails = {"VERIFY green", f"{state} blue"}
    record = new_record()
    with pytest.raises(ProblemError, match=f"{state} blue went wrong"):
        upgrade(record)
    written = Record.model_validate_json(world.written)
    assert written.phase is Phase.ROLLING_BACK
    world.fails, world.ran = set(), []
    rollback(written)
    cut = BACK_RAN.index(f"{state} blue")
    assert world.ran == with_warm_again(BACK_RAN, f"{state} blue")[cut:]
    assert Record.model_validate_json(world.written).phase is Phase.ROLLED_BACK


def with_warm_again(ran: list[str], cut: str) -> list[str]:
    """The states that run, each once; but WARM again after a cut, until QUIESCE is passed."""
    warm, quiesce = (next(name for name in ran if name.startswith(state)) for state in ("WARM", "QUIESCE"))
    at = ran.index(cut)
    again = [warm] if ran.index(warm) < at <= ran.index(quiesce) else []
    return [*ran[:at], *again, *ran[at:]]


@pytest.mark.parametrize("state", FORWARD)
def test_a_command_that_was_killed_in_a_state_continues_with_it(world: World, state: State) -> None:
    world.killed = f"{state} green"
    with pytest.raises(KilledError):
        upgrade(new_record())
    world.killed = ""
    upgrade(Record.model_validate_json(world.written))
    assert world.ran == with_warm_again(FORWARD_RAN, f"{state} green")


@pytest.mark.parametrize("write", range(1, 2 * len(FORWARD) + 1))
def test_a_command_that_was_killed_after_any_write_continues(world: World, write: int) -> None:
    world.writes_left = write
    with pytest.raises(KilledError):
        upgrade(new_record())
    world.writes_left = 10_000
    record = Record.model_validate_json(world.written)
    upgrade(record)
    assert list(dict.fromkeys(world.ran)) == FORWARD_RAN
    assert record.phase is Phase.SOAKING


@pytest.mark.parametrize("error", [RuntimeError("what nobody thought of"), OSError("network"), KeyError("x")])
def test_any_error_of_a_state_leads_back(world: World, error: Exception) -> None:
    world.errors = {"VERIFY green": error}
    with pytest.raises(ProblemError, match="rolled back, because") as caught:
        upgrade(new_record())
    assert type(error).__name__ in caught.value.message
    assert world.ran == [*FORWARD_RAN, *BACK_RAN]


def test_that_somebody_else_is_at_work_does_not_lead_back(world: World) -> None:
    world.errors = {"HANDOVER green": RefusalError("Helm is pending.", "Wait.")}
    with pytest.raises(RefusalError):
        upgrade(new_record())
    assert not [name for name in world.ran if name.endswith("blue")]


def test_who_has_lost_the_environment_does_not_go_back(world: World) -> None:
    world.fails = {"WARM green"}
    record = new_record()
    with pytest.raises(ProblemError, match="WARM green went wrong"):
        machine.go_forward(Move(CLUSTER, record, record.target), RecordStore(CLUSTER), lambda: False)
    assert not [name for name in world.ran if name.endswith("blue")]


def test_if_going_back_fails_too_both_reasons_are_told(world: World) -> None:
    world.fails = {"VERIFY green", "HANDOVER blue"}
    both = r"failed \(VERIFY green went wrong\.\), and so did going back: HANDOVER blue went wrong"
    with pytest.raises(ProblemError, match=both):
        upgrade(new_record())


def test_that_tasks_of_the_new_colour_still_run_is_no_failure_of_going_back(world: World) -> None:
    world.fails = {"VERIFY green", "FINALIZE blue"}
    with pytest.raises(
        ProblemError, match="was rolled back, because VERIFY green went wrong.; FINALIZE blue"
    ) as caught:
        upgrade(new_record())
    assert "airflow-ops rollback dev" in caught.value.fix


def test_it_can_go_back_after_a_kill_and_forward_again_later(world: World) -> None:
    world.killed = "HANDOVER green"
    with pytest.raises(KilledError):
        upgrade(new_record())
    world.killed, world.ran = "", []
    record = Record.model_validate_json(world.written)
    rollback(record)
    assert world.ran == BACK_RAN[1:]
