"""Run the states of an upgrade or of its rollback, and write before and after each how far it is."""

import time
from collections.abc import Callable

from airflow_ops.cluster.api_errors import as_problem
from airflow_ops.colours.record import Passage, Phase, RecordStore, State, now
from airflow_ops.console import ProblemError, RefusalError, err, fail, out, styled
from airflow_ops.upgrades import rehearsal
from airflow_ops.upgrades.prober import probing
from airflow_ops.upgrades.steps import Move

HARMLESS = {State.SNAPSHOT, State.REHEARSE}
"""States that change nothing that runs."""


def go_forward(move: Move, store: RecordStore, is_held: Callable[[], bool]) -> None:
    """Upgrade: run the states that are not passed yet; after a failure go back.

    Args:
        move: The move to the new colour.
        store: Where the record is kept.
        is_held: Whether this command still holds the environment; without that it must not go back either.

    Raises:
        ProblemError: A state failed, and the former colour works again; or going back failed, which is then told.
        RefusalError: Somebody else is at work; nothing was changed since the last state.
    """
    try:
        _run_probed(move, store)
    except RefusalError:
        raise
    except Exception as error:
        if not is_held():
            raise
        _return(move, store, _problem(error))
    move.record.phase = Phase.SOAKING
    store.write(move.record)


def _problem(error: Exception) -> ProblemError:
    """Any error of a state as a problem: whatever it is, the former colour has to work again."""
    if isinstance(error, ProblemError):
        return error
    return as_problem(error) or fail(f"{type(error).__name__}: {error}.", "Look at the logs of the component it names.")


def _return(move: Move, store: RecordStore, problem: ProblemError) -> None:
    """Go back after a failure, and raise what it was."""
    first = " ".join(problem.message.splitlines()[:2])
    source = move.record.source.colour
    err.print(styled("failed", "bold red"), problem.message)
    if {passage.state for passage in move.record.passages} <= HARMLESS:
        move.record.phase, move.record.reason = Phase.ROLLED_BACK, first
        store.write(move.record)
        raise fail(f"the upgrade ended before it changed anything: {problem.message}", problem.fix) from problem
    err.print(f"going back to {source}")
    back = Move(move.cluster, move.record, move.record.source)
    begin_rollback(back, store, first)
    try:
        go_back(back, store)
    except ProblemError as second:
        if back.record.is_done(State.VERIFY, source):
            message = f"the upgrade was rolled back, because {first}; {second.message}"
            raise fail(message, f"Then run: airflow-ops rollback {move.cluster.environment.name}.") from problem
        raise fail(f"the upgrade failed ({first}), and so did going back: {second.message}", second.fix) from problem
    raise fail(
        f"the upgrade was rolled back, because {first}", f"{problem.fix} Then begin the upgrade again."
    ) from problem


def begin_rollback(move: Move, store: RecordStore, reason: str) -> None:
    """Record that an upgrade goes back, and why."""
    rehearsal.clean_up(move.cluster, move.record)
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
    with probing(move.cluster, move.record):
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
