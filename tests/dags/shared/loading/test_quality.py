"""The gate on made-up rows: what it sets aside, what it lets through, and when it refuses a partition."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest


def fields(line: str) -> list[str]:
    """A line of the file as fields."""
    return line.split(",")


GOOD = fields("2013,1,15,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-15T10:00:00Z")
CANCELLED = fields("2013,1,15,NA,1630,NA,NA,1815,NA,EV,4308,NA,EWR,RDU,NA,416,16,30,2013-01-15T21:00:00Z")
KNOWN: dict[str, frozenset[Any]] = {
    "airlines": frozenset({"UA", "EV"}),
    "airports": frozenset({"EWR", "IAH", "RDU"}),
    "planes": frozenset({"N14228"}),
}


def judge(rows: Sequence[Sequence[str]], share: float = 1.0, source_rows: int | None = None, **more: Any) -> Any:
    """Check flights of 15 January 2013; by default any share of them may be set aside."""
    from flights.library.ingest import _is_local
    from flights.library.tables import FLIGHTS
    from shared.loading.quality import check_partition

    numbered = [(line, list(row)) for line, row in enumerate(rows, start=2)]
    given: dict[str, Any] = {"header": FLIGHTS.header, "same_day": _is_local(dt.date(2013, 1, 15)), **more}
    return check_partition(
        FLIGHTS,
        rows=numbered,
        source_rows=len(rows) if source_rows is None else source_rows,
        known=KNOWN,
        max_rejected_share=share,
        **given,
    )


def with_field(name: str, text: str) -> list[str]:
    """A good row with another value in one column."""
    from flights.library.tables import FLIGHTS

    row = list(GOOD)
    row[FLIGHTS.header.index(name)] = text
    return row


def result(verdict: Any, check: str) -> Any:
    """What one check found."""
    return next(found for found in verdict.results if found.check == check)


def test_good_rows_pass_and_become_values() -> None:
    verdict = judge([GOOD, CANCELLED], share=0.0)
    assert verdict.refusals == []
    assert verdict.rejected == []
    first, cancelled = verdict.accepted
    assert first[3:8] == (517, 515, 2, 830, 819)
    assert first[-1] == "2013-01-15T10:00:00Z"
    assert cancelled[3] is None
    assert cancelled[11] is None
    assert all(found.passed for found in verdict.results)


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("dep_time", "2401", "range: dep_time is 2401, more than 2400"),
        ("dep_delay", "-121", "range: dep_delay is -121, less than -120"),
        ("distance", "0", "range: distance is 0, less than 1"),
        ("distance", "far", "type: distance is not of type integer: 'far'"),
        ("distance", "1400.5", "type: distance is not of type integer: '1400.5'"),
        ("sched_dep_time", "NA", "required: sched_dep_time has no value"),
        ("carrier", "", "required: carrier has no value"),
        ("carrier", "XX", "carrier_in_airlines: carrier 'XX' is not in airlines"),
        ("origin", "ZZZ", "origin_in_airports: origin 'ZZZ' is not in airports"),
        ("time_hour", "2013-01-15", "type: time_hour is not of type timestamp: '2013-01-15'"),
        ("time_hour", "yesterday", "type: time_hour is not of type timestamp: 'yesterday'"),
        # Five in the morning in UTC is midnight in New York in winter.
        ("time_hour", "2013-01-15T04:59:59Z", "local_day: time_hour 2013-01-15T04:59:59Z is on another day"),
        ("time_hour", "2013-01-16T05:00:00Z", "local_day: time_hour 2013-01-16T05:00:00Z is on another day"),
    ],
)
def test_a_bad_value_sets_its_row_aside_with_the_reason(column: str, text: str, reason: str) -> None:
    verdict = judge([with_field(column, text), CANCELLED])
    assert len(verdict.accepted) == 1
    assert verdict.rejected[0].line == 2
    assert verdict.rejected[0].reasons[0].startswith(reason)
    check = reason.split(":")[0]
    assert (result(verdict, check).passed, result(verdict, check).observed) == (False, 1)


@pytest.mark.parametrize(
    ("column", "text"),
    [("time_hour", "2013-01-15T05:00:00Z"), ("time_hour", "2013-01-16T04:59:59Z"), ("dep_time", "2400")],
)
def test_values_at_the_edge_are_good(column: str, text: str) -> None:
    assert judge([with_field(column, text)], share=0.0).rejected == []


def test_a_row_with_all_its_faults_lists_them_all() -> None:
    row = with_field("distance", "far")
    row[3] = "9999"
    assert [reason.split(":")[0] for reason in judge([row]).rejected[0].reasons] == ["range", "type"]


def test_too_few_fields() -> None:
    verdict = judge([GOOD[:4]])
    assert verdict.rejected[0].reasons == ["well_formed: 4 fields, expected 19"]


def test_of_two_rows_with_one_key_the_first_is_kept() -> None:
    verdict = judge([GOOD, with_field("tailnum", "N999"), CANCELLED])
    assert [row.line for row in verdict.rejected] == [3]
    assert verdict.rejected[0].reasons == ["unique: time_hour, carrier, flight as in line 2"]


def test_a_bad_row_does_not_take_the_key_from_a_good_one() -> None:
    verdict = judge([with_field("origin", "ZZZ"), GOOD])
    assert [row.line for row in verdict.rejected] == [2]
    assert len(verdict.accepted) == 1


def test_a_warning_counts_rows_and_loads_them() -> None:
    verdict = judge([with_field("dest", "SJU"), CANCELLED], share=0.0)
    assert len(verdict.accepted) == 2
    found = result(verdict, "dest_in_airports")
    assert (found.severity, found.passed, found.observed) == ("warning", False, 1)
    assert "SJU (1)" in found.detail
    assert verdict.refusals == []


def test_the_share_of_rejected_rows_decides() -> None:
    rows = [[*CANCELLED[:10], str(number), *CANCELLED[11:]] for number in range(1, 50)]
    assert judge([GOOD[:4], *rows], share=0.02).refusals == []  # 1 of 50 is just allowed
    refusals = judge([GOOD[:4], GOOD[:3], *rows], share=0.02).refusals
    assert len(refusals) == 1
    assert refusals[0].startswith("flights.rejected_share: 2 of 51 rows rejected (3.92%), allowed 2.00%; first: line 2")


def test_rows_that_got_lost_refuse_the_partition() -> None:
    assert judge([GOOD], source_rows=2).refusals == ["flights.row_count: 1 rows staged, 2 in the source"]


def test_a_partition_without_rows_is_refused_where_there_must_be_some() -> None:
    from flights.library.tables import WEATHER
    from shared.loading.quality import check_partition

    assert "no rows of this partition" in judge([]).refusals[0]
    weather = check_partition(WEATHER, WEATHER.header, [], 0, KNOWN, 0.0)
    assert weather.refusals == []
    assert not result(weather, "not_empty").passed


def test_a_changed_header_refuses_the_partition_and_names_the_columns() -> None:
    from flights.library.tables import FLIGHTS

    header = ["tail_number" if name == "tailnum" else name for name in FLIGHTS.header]
    verdict = judge([GOOD], header=header)
    assert "columns missing: tailnum; unknown: tail_number" in verdict.refusals[0]
    assert verdict.accepted == []
    swapped = judge([GOOD], header=[FLIGHTS.header[1], FLIGHTS.header[0], *FLIGHTS.header[2:]])
    assert "expected in this order" in swapped.refusals[0]


def test_lines_without_a_day_are_reported() -> None:
    found = result(judge([GOOD], undated=3), "dated")
    assert (found.severity, found.passed, found.observed) == ("warning", False, 3)


def test_rejected_rows_are_kept_with_line_reason_and_text() -> None:
    import json

    text = judge([GOOD, with_field("distance", "far")]).rejected_lines()
    assert [json.loads(line) for line in text.splitlines()] == [
        {
            "line": 3,
            "reasons": ["type: distance is not of type integer: 'far'"],
            "fields": with_field("distance", "far"),
        }
    ]


def test_infinite_numbers_are_none() -> None:
    from shared.loading.quality import READERS

    for text in ("nan", "inf", "-Infinity"):
        with pytest.raises(ValueError, match=text):
            READERS["number"](text)
