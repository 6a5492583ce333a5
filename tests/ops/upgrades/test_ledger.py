"""The check of the tests on a cluster can fail: it sees what was lost, and what happened twice."""

from dataclasses import replace

import pytest

from support.ledger import DAG, Row, check_ledger

RUN = "manual__1"


def row(task: str, event: str, number: int = 1, index: int = -1, host: str = "a") -> Row:
    return Row(DAG, RUN, task, str(index), str(number), event, host, "")


def good() -> list[Row]:
    tasks = [("run_long", -1), ("wait_in_triggerer", -1), *(("fan_out", index) for index in range(6))]
    both = [row(task, event, index=index) for task, index in tasks for event in ("start", "end")]
    return [*both, row("fail_first", "start"), row("fail_first", "start", 2), row("fail_first", "end", 2)]


def test_a_good_ledger_passes() -> None:
    check_ledger(good(), [RUN])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: [*rows, rows[0]], id="started twice"),
        pytest.param(lambda rows: [*rows, rows[1]], id="ended twice"),
        pytest.param(lambda rows: [*rows[:1], *rows[2:]], id="its end is missing"),
        pytest.param(lambda rows: rows[2:], id="lost"),
        pytest.param(lambda rows: [*rows, row("run_long", "start", 2)], id="a second try"),
        pytest.param(lambda rows: [*rows, row("fail_first", "start", 3)], id="a third try"),
        pytest.param(lambda rows: [rows[0], replace(rows[1], host="b"), *rows[2:]], id="ended in another pod"),
    ],
)
def test_a_ledger_with_a_fault_fails(change: object) -> None:
    with pytest.raises(AssertionError):
        check_ledger(change(good()), [RUN])  # type: ignore[operator]
