"""Run the states of an upgrade or of its rollback, and write before and after each how far it is."""

import time

from airflow_ops.colours.record import Passage, Phase, RecordStore, State, now
from airflow_ops.console import ProblemError, err, out, styled
from airflow_ops.upgrades.prober import probing
from airflow_ops.upgrades.steps import Move


def go_forward(move: Move, store: RecordStore) -> None:
    """Upgrade: run the states that are not passed yet; after a failure go back.

    Args:
        move: The move to the new colour.
        store: Where the record is kept.

    Raises:
        ProblemError: A state failed, and the former colour works again; or going back failed, which is then told.
    """
    try:
        _run_probed(move, store)
    except ProblemError as problem:
        err.print(styled("failed", "bold red"), problem.message)
        err.print("going back to", str(move.record.source.colour))
        back = Move(move.cluster, move.record, move.record.source)
        begin_rollback(back, store, problem.message.splitlines()[0])
        go_back(back, store)
        raise ProblemError(
            f"the upgrade was rolled back, because {problem.message.splitlines()[0]}",
            f"{problem.fix} Then begin the upgrade again.",
        ) from problem
    move.record.phase = Phase.SOAKING
    store.write(move.record)


def begin_rollback(move: Move, store: RecordStore, reason: str) -> None:
    """Record that an upgrade goes back, and why."""
    move.record.phase = Phase.ROLLING_BACK
    move.record.reason = reason
    store.write(move.record)


def go_back(move: Move, store: RecordStore) -> None:
    """Roll back: run the states that are not passed yet, and stop what is left of the new colour.

    Raises:
        ProblemError: A state failed, or tasks of the new colour still run; running it again continues.
    """
    _run_probed(move, store)
    run_state(move, store, State.FINALIZE, "stop what is left of the new colour")
    move.record.phase = Phase.ROLLED_BACK
    store.write(move.record)


def _run_probed(move: Move, store: RecordStore) -> None:
    """Run the states while the prober asks."""
    try:
        with probing(move.cluster, move.record):
            _run(move, store)
    finally:
        store.write(move.record)


def _run(move: Move, store: RecordStore) -> None:
    for state, title in move.states().items():
        run_state(move, store, state, title)


def run_state(move: Move, store: RecordStore, state: State, title: str) -> None:
    """Pass one state, unless it is passed already: write that it begins, run its step, write that it is done.

    Raises:
        ProblemError: Its step fails, or somebody else writes the record.
    """
    record, to = move.record, move.to.colour
    if record.is_done(state, to):
        return
    out.print(f"{state} ({to}): {title}")
    passage = Passage(state=state, to=to, began=now())
    record.passages.append(passage)
    store.write(record)
    started = time.monotonic()
    move.step(state)()
    passage.ended = now()
    store.write(record)
    out.print(styled("ok", "green"), f"{state} ({time.monotonic() - started:.0f} s)")
