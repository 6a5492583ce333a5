"""Checks side by side, and their rows; each check itself is run by the tests of the DAG."""

import sqlite3
import threading
from typing import Any

from shared.watching.health import CheckResult, record, run_checks, table

WELL = CheckResult("warehouse", True, "answered", 0.01)


def test_a_check_that_raises_or_hangs_hides_no_other() -> None:
    released = threading.Event()

    def hang() -> str:
        released.wait()
        return "late"

    def fail() -> str:
        raise OSError("no route")

    results = run_checks({"hangs": hang, "fails": fail, "works": lambda: "fine"}, deadline_seconds=0.5)
    released.set()

    assert [(result.name, result.healthy, result.detail) for result in results] == [
        ("hangs", False, "no answer in 0.5 s"),
        ("fails", False, "OSError: no route"),
        ("works", True, "fine"),
    ]


def test_the_table_names_what_is_unhealthy() -> None:
    lines = table([WELL, CheckResult("bundle", False, "too old", 1.5)]).splitlines()

    assert "healthy" in lines[1]
    assert "bundle" in lines[2]
    assert "UNHEALTHY" in lines[2]
    assert lines[2].endswith("1.500  too old")


def test_rows_are_replaced_and_go_after_thirty_days(platform: Any) -> None:
    def rows() -> list[tuple[Any, ...]]:
        with sqlite3.connect(platform.warehouse) as connection:
            return connection.execute("SELECT run_id, name, detail FROM health_checks ORDER BY run_id").fetchall()

    record("run 1", [WELL])
    with sqlite3.connect(platform.warehouse) as connection:
        connection.execute(
            "INSERT INTO health_checks VALUES ('old', datetime('now', '-31 days'), 'warehouse', 1, 'answered', 0),"
            " ('kept', datetime('now', '-29 days'), 'warehouse', 1, 'answered', 0)"
        )
    record("run 1", [CheckResult("warehouse", True, "once more", 0.01)])

    assert rows() == [("kept", "warehouse", "answered"), ("run 1", "warehouse", "once more")]
