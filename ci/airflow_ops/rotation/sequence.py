"""A rotation as a sequence of steps: one that was cut off continues where it ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from airflow_ops.console import fail, out, progress, styled


@dataclass(frozen=True)
class Step:
    """One step of a rotation.

    Attributes:
        name: Its name, which is recorded once the step is done.
        title: What it does, for output.
        run: Runs the step. Must be idempotent, because a step that was cut off is run again.
        wait: Returns the seconds that must have passed since the end of the step before.
    """

    name: str
    title: str
    run: Callable[[], None]
    wait: Callable[[], float] | None = None


@dataclass(frozen=True)
class RotationState:
    """How far a rotation is.

    Attributes:
        done: Name of the last step that is done; empty where no rotation is running.
        at: When that step was done.
        begun: When the rotation began.
    """

    done: str = ""
    at: datetime | None = None
    begun: datetime | None = None


class StateStore(Protocol):
    """Keeps how far a rotation is."""

    def read(self) -> RotationState:
        """The stored state; an empty one where there is none."""

    def write(self, state: RotationState) -> None:
        """Replace the stored state.

        Raises:
            ProblemError: It was written by somebody else since it was read: the same rotation runs twice.
        """


def run(kind: str, steps: list[Step], store: StateStore) -> None:
    """Run the steps that are not done yet, and record each.

    Args:
        kind: What is rotated.
        steps: All steps, in order.
        store: The state of this kind in this environment.

    Raises:
        ProblemError: A step fails, the last step is unknown, or somebody else runs the same rotation.
    """
    state = store.read()
    names = [step.name for step in steps]
    if state.done and state.done not in names:
        raise fail(
            f"the last step of the rotation of {kind} was {state.done!r}, which is not one of {', '.join(names)}.",
            "It was begun by another version of airflow-ops: finish it with that version.",
        )
    first = names.index(state.done) + 1 if state.done else 0
    begun = state.begun if state.done and state.begun else datetime.now(UTC)
    if first:
        out.print(f"{kind}: continues after {state.done}, {first} of {len(steps)} steps are done")
    else:
        # Written before anything is changed: the write fails with 409 if another rotation started meanwhile.
        store.write(RotationState(begun=begun))
    for number, step in enumerate(steps[first:], first + 1):
        started = time.monotonic()
        out.print(f"{kind} {number}/{len(steps)}: {step.title}")
        if step.wait:
            _await(state, step.wait())
        step.run()
        last = number == len(steps)
        state = RotationState("" if last else step.name, datetime.now(UTC), begun)
        store.write(state)
        out.print(styled("ok", "green"), f"{step.name} ({time.monotonic() - started:.0f} s)")
    seconds = (datetime.now(UTC) - begun).total_seconds()
    out.print(styled("ok", "green"), f"{kind} is rotated ({seconds:.0f} s since it began)")


def _await(state: RotationState, seconds: float) -> None:
    """Wait until some seconds have passed since the last step, which an earlier process may have run."""
    end = (state.at or datetime.now(UTC)) + timedelta(seconds=seconds)
    left = (end - datetime.now(UTC)).total_seconds()
    out.print(f"  until {end:%H:%M:%S} UTC, {max(left, 0):.0f} s; can be interrupted and continued later")
    with progress() as bar:
        task = bar.add_task("waiting", total=int(seconds))
        while (left := (end - datetime.now(UTC)).total_seconds()) > 0:
            bar.update(task, completed=int(seconds - left))
            time.sleep(min(left, 1))
