"""`airflow-ops` in which a state of an upgrade fails after all of its work is done, the worst moment for a way back.

What makes it fail is put in by this program: there is no such switch in the product.
"""

import sys
from collections.abc import Callable

from airflow_ops.cli import app
from airflow_ops.colours.record import State
from airflow_ops.console import fail
from airflow_ops.upgrades.steps import Move

SAID = "was made to fail"


def fail_after(failing: State) -> None:
    """Let a state fail on the way of an upgrade; not on the way back."""
    step_of = Move.step

    def step(self: Move, state: State) -> Callable[[], None]:
        def work_then_fail() -> None:
            step_of(self, state)()
            raise fail(f"{state} {SAID}.", "Nothing to correct.")

        return work_then_fail if state is failing and self.is_forward else step_of(self, state)

    Move.step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    fail_after(State(sys.argv.pop(1)))
    app()
