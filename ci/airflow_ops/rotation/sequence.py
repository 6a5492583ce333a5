"""A rotation as a sequence of steps that can be cut off anywhere and goes on from where it ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from airflow_ops.console import fail, out, progress


@dataclass(frozen=True)
class Step:
    """One step of a rotation.

    Attributes:
        name: Its name; what is noted once it is done.
        title: What it does, for people.
        run: Does it. May be cut off and run again, so it looks at what is there first.
        wait: Gives the seconds that must have passed since the end of the step before.
    """

    name: str
    title: str
    run: Callable[[], None]
    wait: Callable[[], float] | None = None


@dataclass(frozen=True)
class Note:
    """How far a rotation is.

    Attributes:
        done: Name of the last step that is done; empty where none is under way.
        at: When that was.
        begun: When the rotation began.
    """

    done: str = ""
    at: datetime | None = None
    begun: datetime | None = None


class Notebook(Protocol):
    """Where it is noted how far a rotation is."""

    def read(self) -> Note:
        """The note; an empty one where there is none."""

    def write(self, note: Note) -> None:
        """Replace the note.

        Raises:
            ProblemError: Somebody else has written since it was read: the same rotation runs twice.
        """


def run(kind: str, steps: list[Step], notebook: Notebook) -> None:
    """Run the steps that are not done yet, and note each.

    Args:
        kind: What is rotated.
        steps: All steps, in order.
        notebook: Of this kind in this environment.

    Raises:
        ProblemError: A step fails, the note names a step that there is not, or somebody runs the same rotation.
    """
    note = notebook.read()
    names = [step.name for step in steps]
    if note.done and note.done not in names:
        raise fail(
            f"the rotation of {kind} is noted to be at {note.done!r}, which is no step of it: {', '.join(names)}.",
            "It was begun by another version of airflow-ops: end it with that one.",
        )
    first = names.index(note.done) + 1 if note.done else 0
    begun = note.begun if note.done and note.begun else datetime.now(UTC)
    if first:
        out.print(f"{kind}: goes on after {note.done}, {first} of {len(steps)} steps are done", highlight=False)
    else:
        # Written before anything is changed: the write fails with 409 if another rotation started meanwhile.
        notebook.write(Note(begun=begun))
    for number, step in enumerate(steps[first:], first + 1):
        started = time.monotonic()
        out.print(f"{kind} {number}/{len(steps)}: {step.title}", highlight=False)
        if step.wait:
            _await(note, step.wait())
        step.run()
        last = number == len(steps)
        note = Note("" if last else step.name, datetime.now(UTC), begun)
        notebook.write(note)
        out.print(f"[green]ok[/] {step.name} ({time.monotonic() - started:.0f} s)", highlight=False)
    seconds = (datetime.now(UTC) - begun).total_seconds()
    out.print(f"[green]ok[/] {kind} is rotated ({seconds:.0f} s since it began)", highlight=False)


def _await(note: Note, seconds: float) -> None:
    """Wait until some seconds have passed since a note, whenever this process began."""
    end = (note.at or datetime.now(UTC)) + timedelta(seconds=seconds)
    left = (end - datetime.now(UTC)).total_seconds()
    out.print(
        f"  until {end:%H:%M:%S} UTC, {max(left, 0):.0f} s; may be cut off and gone on with later", highlight=False
    )
    with progress() as bar:
        task = bar.add_task("waits", total=int(seconds))
        while (left := (end - datetime.now(UTC)).total_seconds()) > 0:
            bar.update(task, completed=int(seconds - left))
            time.sleep(min(left, 1))
