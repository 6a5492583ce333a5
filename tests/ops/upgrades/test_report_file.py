"""The report of an upgrade as a file."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_ops.colours.record import Bucket, Passage, Phase, Probed, Record, Side, State
from airflow_ops.console import ProblemError
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import report_file
from airflow_ops.upgrades.prober import add_times

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
STARTS = [BEGAN.timestamp() + seconds for seconds in (1, 7, 40, 46)]


def record() -> Record:
    sides = {
        colour: Side(colour=colour, version=version, image=f"image:{version}", replicas={})
        for colour, version in zip(Colour, ("3.2.2", "3.3.2"), strict=True)
    }
    return Record(
        id="1",
        phase=Phase.ROLLED_BACK,
        source=sides[Colour.BLUE],
        target=sides[Colour.GREEN],
        digest="d",
        reason="<b>the canary</b> failed",
        passages=[
            Passage(state=State.WARM, to=Colour.GREEN, began=BEGAN, ended=BEGAN + timedelta(seconds=20)),
            Passage(state=State.VERIFY, to=Colour.GREEN, began=BEGAN + timedelta(seconds=20)),
        ],
        probed={"page": Probed(requests=90, failed=1, worst_ms=800, failures=["1.0 status 503"])},
        timeline=[Bucket(at=int(BEGAN.timestamp()), requests=90, failed=1, worst_ms=800)],
    )


def test_the_page_shows_what_happened_and_nothing_as_markup(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report_file.write(path, "dev", record(), STARTS)
    text = path.read_text()
    assert "&lt;b&gt;the canary&lt;/b&gt; failed" in text
    assert "4 tasks started meanwhile; the longest time between two starts was 33 s" in text
    assert "not ended" in text
    assert "status 503" in text
    assert text.count("<svg") == 1
    assert "WARM 20 s" in text, "the plot names the states"
    assert "http" not in text.split("</svg>")[1], "it loads nothing"


def test_the_same_as_json(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report_file.write(path, "dev", record(), STARTS)
    found = json.loads(path.read_text())
    assert found["tasks"] == {"starts": STARTS, "longest_gap_seconds": 33.0}
    assert found["upgrade"]["probed"]["page"]["failed"] == 1
    assert found["upgrade"]["timeline"][0]["requests"] == 90


def test_without_tasks_there_is_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report_file.write(path, "dev", record(), [])
    assert "0 tasks started meanwhile." in path.read_text()


@pytest.mark.parametrize("name", ["report.pdf", "report", "none/report.html"])
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProblemError, match=name):
        report_file.write(tmp_path / name, "dev", record(), STARTS)


def test_an_upgrade_that_has_not_begun_has_no_report() -> None:
    empty = record().model_copy(update={"passages": []})
    with pytest.raises(ProblemError, match="has not begun yet"):
        report_file.query_of_starts(empty)


def test_what_the_prober_counted_is_added_by_time() -> None:
    lines = [
        {"at": 101.0, "probe": "page", "requests": 4, "failed": 0, "worst_ms": 10},
        {"at": 102.0, "probe": "health", "requests": 4, "failed": 1, "worst_ms": 30},
        {"at": 102.0, "probe": "health", "error": "status 503", "ms": 30},
        {"at": 106.0, "probe": "page", "requests": 4, "failed": 0, "worst_ms": 20},
        {"at": 100.0, "probe": "", "began": True},
    ]
    log = "\n".join(map(json.dumps, lines)) + '\n{"at": 107, "pro'
    once = add_times([], log)
    assert once == [Bucket(at=100, requests=8, failed=1, worst_ms=30), Bucket(at=105, requests=4, worst_ms=20)]
    assert add_times(once, log)[0] == Bucket(at=100, requests=16, failed=2, worst_ms=30)
