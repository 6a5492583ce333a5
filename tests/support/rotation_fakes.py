"""An environment without a cluster: Secrets, and pods that keep what they read when they started.

The tests of rotations use it in place of the real environment, which tests/e2e/test_rotation.py runs against.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_ops.rotation.context import Content
from airflow_ops.rotation.sequence import RotationState

COMPONENTS = ("api-server", "scheduler", "triggerer")


class CutOffError(Exception):
    """Anything that ends the command where it is: the terminal is closed, the network is gone."""


@dataclass
class FakeContext:
    """Replaces one pod after the other, and checks the invariant after each.

    Attributes:
        secrets: Content of Secrets by purpose.
        invariant: Given what each pod has read, raises where one could not understand another.
        cut_at: Number of the action at whose end the command dies; None for never.
    """

    secrets: dict[str, Content]
    invariant: Callable[[list[dict[str, Content]]], None] = lambda pods: None
    cut_at: int | None = None
    actions: list[str] = field(default_factory=list)
    read: dict[str, dict[str, Content]] = field(init=False)
    answers: list[str] = field(default_factory=lambda: ["0"])
    values: Any = None
    cluster: Any = None

    def __post_init__(self) -> None:
        self.read = {component: dict(self.secrets) for component in COMPONENTS}

    def secret(self, purpose: str) -> Content:
        return self.secrets[purpose]

    def change(self, purpose: str, change: Callable[[Content], Content]) -> None:
        self.secrets[purpose] = change(self.secrets[purpose])
        self._act(f"change {purpose}")

    def restart(self, purpose: str) -> None:
        for component in COMPONENTS:
            if self.read[component][purpose] == self.secrets[purpose]:
                continue
            self.read[component] = dict(self.secrets)
            self._act(f"restart {component}")

    def run_job(self, cron_job: str, what: str) -> list[str]:
        self._act(f"run {cron_job}")
        return ["done"]

    def run_in_readers(self, purpose: str, program: str) -> list[str]:
        return self.answers

    def _act(self, what: str) -> None:
        self.invariant(list(self.read.values()))
        self.actions.append(what)
        if self.cut_at is not None and len(self.actions) > self.cut_at:
            self.cut_at = None
            raise CutOffError(what)


@dataclass
class FakeStore:
    """Keeps the state of a rotation in memory, where the real one keeps it in a ConfigMap."""

    state: RotationState = field(default_factory=RotationState)
    written: list[RotationState] = field(default_factory=list)

    def read(self) -> RotationState:
        return self.state

    def write(self, state: RotationState) -> None:
        self.state = state
        self.written.append(state)


def interruptions(run: Callable[[int | None], FakeContext]) -> Iterator[FakeContext]:
    """Run a rotation to its end, then once more for each of its actions: cut off after that action, and continued."""
    whole = run(None)
    yield whole
    for number in range(len(whole.actions)):
        yield run(number)
