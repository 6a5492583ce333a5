"""Trials: how each DAG is run to show that it works, and how the run has to end (`dags/config/trials.yaml`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from airflow_ops.console import fail
from airflow_ops.environments.configuration import read_checked
from airflow_ops.paths import DAGS, dag_ids

FILE = DAGS / "config/trials.yaml"
ENDS = ("success", "failed")
TODAY = "today"
"""Partition of a DAG that reads Airflow's own runs: on a new Airflow, other days have none."""


class Entry(BaseModel):
    """One trial in the file; the head of the file explains each key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = "runs"
    partition: str | None = None
    conf: dict[str, Any] | None = None
    end: Literal["success", "failed"] = "success"
    tasks: dict[str, str] = {}
    after: list[str] = []


ENTRIES = TypeAdapter(dict[str, list[Entry]])


@dataclass(frozen=True)
class Trial:
    """One run of a DAG.

    Attributes:
        dag_id: The DAG.
        name: What the trial shows, in a few words.
        partition: Day or month of the run, used as its partition key or logical date; None for a run without one.
        conf: The run's conf.
        end: State in which the run has to end.
        tasks: State in which a task has to end, by task id; a task that is not named may end in any state.
        after: DAGs whose trials have to end before this one starts.
    """

    dag_id: str
    name: str = "runs"
    partition: str | None = None
    conf: dict[str, Any] | None = None
    end: str = "success"
    tasks: dict[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()


def date_of(partition: str) -> date:
    """The day of a partition key; for a month, its first day.

    Raises:
        ProblemError: It is neither a day nor a month.
    """
    for pattern in ("%Y-%m-%d", "%Y-%m"):
        try:
            return datetime.strptime(partition, pattern).replace(tzinfo=UTC).date()
        except ValueError:
            continue
    raise fail(f"partition {partition!r} is neither a day nor a month.", "Write 2013-01-15 or 2013-01.")


def load_trials(wanted: Sequence[str]) -> list[Trial]:
    """The trials of some DAGs (of all where none is named), ordered so that each comes after those it needs.

    Raises:
        ProblemError: A DAG does not exist, or the file has an unknown key or value; it is named.
    """
    known, written = dag_ids(), read_checked(FILE, FILE.name, ENTRIES, "The head of that file explains its keys.")
    for dag_id in (*wanted, *written):
        if dag_id not in known:
            where = "" if dag_id in wanted else f"{FILE.name}: "
            raise fail(f"{where}there is no DAG {dag_id!r}.", "`airflow-ops dags list` shows all DAGs.")
    trials = {dag_id: list(_trials(dag_id, written.get(dag_id, [Entry()]), known)) for dag_id in known}
    return [trial for dag_id in _ordered(trials, list(wanted) or known) for trial in trials[dag_id]]


def _trials(dag_id: str, entries: list[Entry], known: list[str]) -> Iterator[Trial]:
    for entry in entries:
        trial = Trial(dag_id, **{**entry.model_dump(), "after": tuple(entry.after)})
        if trial.partition == TODAY:
            trial = replace(trial, partition=datetime.now(UTC).date().isoformat())
        if missing := sorted(set(trial.after) - set(known)):
            raise fail(
                f"{FILE.name}: {dag_id}: after: there is no DAG {missing[0]}.",
                "`airflow-ops dags list` shows all DAGs.",
            )
        yield trial


def _ordered(trials: dict[str, list[Trial]], wanted: list[str]) -> list[str]:
    done: list[str] = []

    def add(dag_id: str, above: tuple[str, ...]) -> None:
        if dag_id in above:
            raise fail(
                f"{FILE.name}: {' -> '.join((*above, dag_id))}: each comes after the other.",
                "Remove one of these `after` entries.",
            )
        for trial in trials[dag_id]:
            for before in trial.after:
                if before in wanted:
                    add(before, (*above, dag_id))
        if dag_id not in done:
            done.append(dag_id)

    for dag_id in wanted:
        add(dag_id, ())
    return done
