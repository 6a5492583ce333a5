"""`compatibility`: which versions of Airflow were upgraded to which, as rehearsals measured it."""

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, TypeAdapter

from airflow_ops.cluster.connection import connect
from airflow_ops.colours.record import ASKED_FOR, Phase, Record, RecordStore, Rehearsal, State
from airflow_ops.console import counted, fail, out
from airflow_ops.environments.configuration import read_json
from airflow_ops.environments.environment import Environment
from airflow_ops.options import TrialOverlays
from airflow_ops.paths import ROOT
from airflow_ops.recovery.backup import megabytes

MEASURED = ROOT / "docs/rehearsals.json"
PAGE = ROOT / "docs/compatibility.md"
BEGINNING, END = "<!-- from docs/rehearsals.json, by `make generate` -->", "<!-- end -->"
HEAD = ["| From | To | Migration | Beside the former version | Seen |", "|---|---|---|---|---|"]


class Pair(BaseModel):
    """What an upgrade from one version to another was like.

    Attributes:
        source: The version that worked before.
        target: The version that it was upgraded to.
        case: What is special about the environment or the upgrade, where that changes the answer.
        rehearsal: What a rehearsal measured; None where there was none to do, or where it refused.
        refused: Why both versions cannot work beside each other; empty where they can.
        seen: Where and how far.
    """

    model_config = ConfigDict(extra="forbid")

    source: str
    target: str
    case: str = ""
    rehearsal: Rehearsal | None = None
    refused: str = ""
    seen: str


OUTCOMES = {
    Phase.SOAKING: "forward",
    Phase.PROMOTED: "forward, and promoted",
    Phase.ROLLED_BACK: "forward and back",
}
PAIRS = TypeAdapter(list[Pair])


def read(path: Path) -> list[Pair]:
    """The pairs in a file.

    Raises:
        ProblemError: It is no list of pairs.
    """
    return read_json(path, path.name, PAIRS, "Correct it.")


def of_record(record: Record, case: str) -> Pair:
    """What the record of an upgrade says about its pair of versions.

    Raises:
        ProblemError: The upgrade did not come as far as an answer.
    """
    last = record.passages[-1].state if record.passages else None
    refused = record.reason if last is State.REHEARSE and record.phase is Phase.ROLLED_BACK else ""
    if record.phase not in OUTCOMES or (record.migrates and not record.rehearsal and not refused):
        raise fail(f"the upgrade is {record.phase}, and its migration was not rehearsed.", "Let it come to its end.", 2)
    outcome = "refused" if refused else OUTCOMES[record.phase]
    if record.phase is Phase.ROLLED_BACK and not refused and record.reason != ASKED_FOR:
        raise fail(f"the upgrade was rolled back, because {record.reason}.", "Correct that, and upgrade again.", 2)
    return Pair(
        source=record.source.version,
        target=record.target.version,
        case=case,
        rehearsal=record.rehearsal,
        refused=refused,
        seen=f"{outcome}, on {record.began:%Y-%m-%d}",
    )


def merged(pairs: list[Pair], found: Pair) -> list[Pair]:
    """The pairs with one that takes the place of an earlier one of the same versions and case."""

    def name(pair: Pair) -> tuple[str, str, str]:
        return pair.source, pair.target, pair.case

    if name(found) not in map(name, pairs):
        return [*pairs, found]
    return [found if name(pair) == name(found) else pair for pair in pairs]


def row(pair: Pair) -> str:
    """A pair as a row of the table."""
    migration, beside = "", "yes"
    if pair.refused:
        beside = f"no: {pair.refused}"
    elif pair.rehearsal is None:
        migration = "none"
    else:
        size = megabytes(pair.rehearsal.database_bytes)
        migration = f"{pair.rehearsal.migration_seconds:.0f} s on a database of {size}"
        if columns := pair.rehearsal.bridged:
            names = ", ".join(f"`{column}`" for column in columns)
            beside = f"yes, with {counted(len(columns), 'default')} for {names}"
    target = ", ".join(filter(None, [pair.target, pair.case]))
    cells = [cell.replace("|", "/") for cell in (pair.source, target, migration, beside, pair.seen)]
    return f"| {' | '.join(cells)} |"


def page(text: str, pairs: list[Pair]) -> str:
    """The page with the table of some pairs in the place of the one that it has."""
    before, _, rest = text.partition(BEGINNING)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGINNING, *HEAD, *map(row, pairs), END]) + after


def compatibility(
    name: Annotated[
        str, typer.Option("--add", metavar="ENV", help="Add what the last upgrade of an environment has measured.")
    ] = "",
    case: Annotated[str, typer.Option(metavar="WORDS", help="What was special about it.")] = "",
    overlay: TrialOverlays = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail where the page would change.")] = False,
) -> None:
    """Write the table of docs/compatibility.md: which versions were upgraded to which.

    Example: airflow-ops compatibility --add dev
    """
    pairs = read(MEASURED)
    if name:
        record = RecordStore(connect(Environment.load(name, overlay))).read()
        if record is None:
            raise fail(f"there was no upgrade of {name} yet.", "Upgrade it first.", 2)
        pairs = merged(pairs, of_record(record, case))
    old = PAGE.read_text()
    new = page(old, pairs)
    if check:
        if new != old:
            raise fail(f"{PAGE.name} is out of date.", "Run `make generate` and commit its changes.")
        return
    MEASURED.write_text(json.dumps(PAIRS.dump_python(pairs, exclude_defaults=True, mode="json"), indent=2) + "\n")
    PAGE.write_text(new)
    out.print(f"{counted(len(pairs), 'pair')} of versions")
