"""The monthly report: its figures against the source, and what it says when a carrier fails."""

import csv
import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from conftest import Source

DAG_ID = "flights_report_monthly"
MONTH = dt.date(2013, 1, 1)
Run = Callable[..., Any]


@pytest.fixture
def loaded(source: "Source", storage: Path, warehouse: str) -> Any:
    """A warehouse of either kind with two days in it; one row of them was set aside."""
    from airflow.sdk import ObjectStoragePath

    from flights.library.ingest import check_day, load_day, stage_day
    from shared.loading.warehouse import warehouse_hook

    source.edit("flights.csv.zip", 2, lambda fields: [*fields[:3], "2599", *fields[4:]])
    hook = warehouse_hook()
    for number in (1, 2):
        day, folder = dt.date(2013, 1, number), ObjectStoragePath((storage / "stage").as_uri())
        staged = stage_day(ObjectStoragePath(source.folder.as_uri()), folder, day)
        load_day(hook, check_day(hook, staged, folder, day, f"run-{number}", 0.02), day, f"run-{number}")
    return hook


def flights_of(source: "Source") -> list[dict[str, str]]:
    """The flights of the source but for the one that was set aside."""
    return list(csv.DictReader(source.lines("flights.csv.zip")))[1:]


def test_figures_are_those_of_the_source(loaded: Any, source: "Source") -> None:
    from flights.library.report import carriers_of, summarise_carrier, summarise_month

    carriers = carriers_of(loaded, MONTH)
    summary = summarise_month(loaded, MONTH, carriers, [summarise_carrier(loaded, MONTH, one) for one in carriers])

    flights = flights_of(source)
    delays = [int(row["dep_delay"]) for row in flights if row["dep_time"] != "NA"]
    assert summary["total"]["flights"] == len(flights) == 1784
    assert summary["total"]["cancelled"] == len(flights) - len(delays)
    assert summary["total"]["delayed"] == sum(delay >= 15 for delay in delays)
    assert summary["total"]["mean_delay"] == pytest.approx(sum(delays) / len(delays))

    united = [row for row in flights if row["carrier"] == "UA"]
    late = [int(row["dep_delay"]) for row in united if row["dep_time"] != "NA"]
    found = next(row for row in summary["carriers"] if row["carrier"] == "UA")
    assert (found["name"], found["flights"], found["worst_delay"]) == ("United Air Lines Inc.", len(united), max(late))
    assert found["mean_delay"] == pytest.approx(sum(late) / len(late))
    assert summary["missing"] == []
    assert [row["flights"] for row in summary["carriers"]] == sorted(
        (row["flights"] for row in summary["carriers"]), reverse=True
    )

    by_hour = {row["hour"]: row["flights"] for row in summary["hours"]}
    assert by_hour[6] == sum(row["hour"] == "6" for row in flights)
    assert [(row["day"], row["flights"]) for row in summary["days"]] == [("2013-01-01", 841), ("2013-01-02", 943)]

    weather = {(row["origin"], row["time_hour"]): row for row in csv.DictReader(source.lines("weather.csv"))}
    hours = [weather.get((row["origin"], row["time_hour"])) for row in flights]
    windy = sum(row is not None and row["wind_speed"] != "NA" and float(row["wind_speed"]) >= 20 for row in hours)
    classes = {row["class"]: row["flights"] for row in summary["weather"]["Wind (miles an hour)"]}
    assert classes.get("20 and more", 0) == windy
    assert list(classes)[:2] == ["below 10", "10 to 20"]


def test_the_data_quality_of_the_month(loaded: Any) -> None:
    from flights.library.report import summarise_month

    quality = summarise_month(loaded, MONTH, [{"carrier": "UA", "name": "United"}], [])["quality"]
    assert [(row["table_name"], row["days"], row["loaded"], row["rejected"]) for row in quality["tables"]] == [
        ("flights", 2, 1784, 1),
        ("weather", 2, 139, 0),
    ]
    failed = {(row["table_name"], row["check_name"], row["severity"]): row["observed"] for row in quality["checks"]}
    assert failed["flights", "range", "error"] == 1
    assert ("flights", "dest_in_airports", "warning") in failed
    assert [(row["partition_key"], row["rows_rejected"]) for row in quality["rejected"]] == [("2013-01-01", 1)]
    assert len(quality["days_missing"]) == 29


def test_a_month_that_is_not_loaded_is_named(loaded: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from flights.library.report import carriers_of, summarise_month

    with pytest.raises(AirflowFailException, match="no flights of 2013-02 are loaded"):
        carriers_of(loaded, dt.date(2013, 2, 1))
    with pytest.raises(AirflowFailException, match="list_carriers gave no carriers"):
        summarise_month(loaded, MONTH, None, None)


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_whole_run_writes_one_file_that_needs_no_other(loaded: Any, run_dag: Run, storage: Path) -> None:
    run = run_dag(DAG_ID, dt.datetime(2013, 1, 20, tzinfo=dt.UTC))
    assert run.state == "success"
    page = (storage / "reports/flights/2013-01/index.html").read_text()
    assert "Flights out of New York, January 2013" in page
    assert run.run_id in page
    assert "1,784" in page
    assert "United Air Lines Inc." in page
    assert "29 days of the month are not loaded" in page
    assert page.count("<svg") == 4
    assert not re.findall(r"""(?:src|href)=["'](?!\#)""", page.replace("xlink:href", "href"))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))  # the ids of one plot would change another
    carriers = [ti for ti in run.get_task_instances() if ti.task_id == "summarise_carrier"]
    assert {ti.pool for ti in carriers} == {"reports"}
    assert "United Air Lines Inc." in {ti.rendered_map_index for ti in carriers}


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_carrier_that_fails_is_named_and_the_run_fails(
    loaded: Any, run_dag: Run, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from flights.library import report as flights_report

    whole = flights_report.summarise_carrier

    def refuse_delta(hook: Any, month: dt.date, carrier: Any) -> Any:
        if carrier["carrier"] == "DL":
            raise AirflowFailException("no figures today")
        return whole(hook, month, carrier)

    monkeypatch.setattr(flights_report, "summarise_carrier", refuse_delta)
    run = run_dag(DAG_ID, dt.datetime(2013, 1, 20, tzinfo=dt.UTC))
    assert run.state == "failed"
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances() if ti.map_index < 0}
    assert states["summarise_month"] == states["write_report"] == "success"
    assert states["require_every_carrier"] == "failed"
    page = (storage / "reports/flights/2013-01/index.html").read_text()
    assert "Missing below: Delta Air Lines Inc. (DL)." in page
    assert "1,784" in page  # the key figures are of all flights


def test_the_error_names_the_carriers_and_the_report() -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from flights.library.report import require_every_carrier

    summary: Any = {"missing": [{"carrier": "DL", "name": "Delta"}, {"carrier": "UA", "name": "United"}]}
    with pytest.raises(AirflowFailException, match=r"no summary of Delta \(DL\), United \(UA\); file:///r names them"):
        require_every_carrier(summary, "file:///r")
    require_every_carrier({**summary, "missing": []}, "file:///r")


def test_names_in_the_page_are_text_not_markup() -> None:
    from flights.library.page import render_report

    figures = {"flights": 0, "cancelled": 0, "mean_delay": None, "delayed": 0}
    quality: Any = {"tables": [], "checks": [], "rejected": [], "days_missing": []}
    summary: Any = {
        "month": "2013-02",
        "total": figures,
        "carriers": [{**figures, "carrier": "XX", "name": "<b>Air & Sea</b>", "worst_delay": None}],
        "missing": [],
        "hours": [],
        "days": [],
        "weather": {},
        "quality": quality,
    }
    page = render_report(summary, "run<1>")
    assert "&lt;b&gt;Air &amp; Sea&lt;/b&gt;" in page
    assert "run&lt;1&gt;" in page
    assert "No weather was loaded" in page


def test_the_report_waits_for_all_days_of_its_month(load_dag: Callable[[str], "DAG"]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(load_dag(DAG_ID)))
    mapper = dag.timetable.default_partition_mapper
    assert mapper.to_downstream("2013-01-31") == "2013-01"
    needed = set(mapper.to_upstream("2013-01"))
    assert needed == {f"2013-01-{day:02}" for day in range(1, 32)}
