"""The table of versions that were upgraded to each other, and what an upgrade's record adds to it."""

from pathlib import Path
from typing import Any

import pytest

from airflow_ops.colours.record import ASKED_FOR, Passage, Phase, Record, Rehearsal, Side, State, now
from airflow_ops.console import ProblemError
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import compatibility
from airflow_ops.upgrades.compatibility import Pair, merged, of_record, page, read, row

REHEARSAL = Rehearsal(migration_seconds=4.2, database_bytes=12_345_678, start_seconds=9, bridged=["dag.x"])


def record(**changes: Any) -> Record:
    blue, green = (
        Side(colour=colour, version=version, image=f"airflow:{version}", replicas={})
        for colour, version in zip(Colour, ("3.2.2", "3.3.2"), strict=True)
    )
    return Record(
        **{"id": "20261128044359", "source": blue, "target": green, "digest": "d", "migrates": True, **changes}
    )


def passed(*states: State) -> list[Passage]:
    return [Passage(state=state, to=Colour.GREEN, began=now()) for state in states]


def test_an_upgrade_that_was_rehearsed_is_a_row() -> None:
    done = record(rehearsal=REHEARSAL, phase=Phase.ROLLED_BACK, reason=ASKED_FOR, passages=passed(State.VERIFY))
    assert row(of_record(done, "with | deadlines")) == (
        "| 3.2.2 | 3.3.2, with / deadlines | 4 s on a database of 12.3 MB | yes, with 1 default for `dag.x` "
        "| forward and back, on 2026-11-28 |"
    )


def test_so_is_one_that_the_rehearsal_refused() -> None:
    refused = record(phase=Phase.ROLLED_BACK, reason="a.b is gone", passages=passed(State.SNAPSHOT, State.REHEARSE))
    assert "| no: a.b is gone | refused, on 2026-11-28 |" in row(of_record(refused, ""))


def test_one_of_configuration_only_has_no_migration() -> None:
    assert "| none | yes | forward, and promoted" in row(of_record(record(migrates=False, phase=Phase.PROMOTED), ""))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase": Phase.UPGRADING, "rehearsal": REHEARSAL}, "the upgrade is upgrading"),
        ({"phase": Phase.ROLLED_BACK, "passages": passed(State.SNAPSHOT), "reason": "no room"}, "was not rehearsed"),
        ({"phase": Phase.ROLLED_BACK, "rehearsal": REHEARSAL, "reason": "no room"}, "rolled back, because no room"),
    ],
)
def test_one_that_says_nothing_about_its_versions_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError) as caught:
        of_record(record(**changes), "")
    assert message in caught.value.message


def test_a_newer_answer_takes_the_place_of_the_earlier_one() -> None:
    old, other, new = (
        Pair(source="1", target="2", case=case, seen=seen)
        for case, seen in (("", "old"), ("with deadlines", "old"), ("", "new"))
    )
    assert merged([old, other], new) == [new, other]
    assert merged([other], new) == [other, new]


def test_the_page_keeps_all_but_its_table() -> None:
    text = f"before\n{compatibility.BEGINNING}\n| old |\n{compatibility.END}\nafter\n"
    new = page(text, [Pair(source="1", target="2", seen="s")])
    assert new.startswith("before\n")
    assert new.endswith(f"| 1 | 2 | none | yes | s |\n{compatibility.END}\nafter\n")
    assert "old" not in new


def test_the_page_of_this_repository_is_that_of_its_rehearsals() -> None:
    text = compatibility.PAGE.read_text()
    assert page(text, read(compatibility.MEASURED)) == text


def test_a_file_that_is_no_list_of_pairs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rehearsals.json"
    path.write_text('[{"source": "1", "target": "2"}]')
    with pytest.raises(ProblemError, match=r"rehearsals.json: 0.seen: missing"):
        read(path)
