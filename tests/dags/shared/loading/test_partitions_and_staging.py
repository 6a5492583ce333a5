"""Which partition a run is for, and where its files lie."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def context(partition_key: str | None = None, logical_date: dt.datetime | None = None) -> dict[str, Any]:
    """What a task is given, as far as partitions go."""
    return {"dag_run": SimpleNamespace(run_id="r", partition_key=partition_key, logical_date=logical_date)}


def test_the_key_names_the_partition_and_the_logical_date_stands_in() -> None:
    from shared.authoring.partitions import day_of, month_of

    noon = dt.datetime(2013, 2, 3, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-5)))
    assert day_of(context("2013-01-15", noon)) == dt.date(2013, 1, 15)
    assert day_of(context(logical_date=noon)) == dt.date(2013, 2, 4)  # the day in UTC, as the page shows it
    assert month_of(context("2013-01")) == dt.date(2013, 1, 1)
    assert month_of(context(logical_date=noon)) == dt.date(2013, 2, 1)


@pytest.mark.parametrize("key", ["2013-01", "2013-02-30", "yesterday"])
def test_a_key_that_is_no_day_is_told_what_to_be(key: str) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from shared.authoring.partitions import day_of

    with pytest.raises(AirflowFailException, match=f"'{key}' does not fit .* such as 2013-01-15"):
        day_of(context(key))


def test_a_run_without_any_date_is_told_what_to_pass() -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from shared.authoring.partitions import day_of, month_of

    with pytest.raises(AirflowFailException, match="names no partition: trigger it with a partition key"):
        day_of(context())
    with pytest.raises(AirflowFailException, match="2013-01 or a logical date"):
        month_of(context())


@pytest.mark.parametrize(("year", "month", "days"), [(2013, 2, 28), (2012, 2, 29), (2013, 12, 31), (2013, 1, 31)])
def test_days_of_a_month(year: int, month: int, days: int) -> None:
    from shared.authoring.partitions import days_of

    found = days_of(dt.date(year, month, 1))
    assert (len(found), found[-1]) == (days, dt.date(year, month, days))


def test_run_ids_become_one_path_segment_and_stay_apart() -> None:
    from shared.loading.staging import safe_name

    ids = [
        "manual__2013-01-01T00:00:00+00:00",
        "manual__2013-01-01T00_00_00_00_00",
        "../../etc",
        "..",
        "a/b",
        "x" * 250,
    ]
    names = [safe_name(run_id) for run_id in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert 0 < len(name) < 150
    assert safe_name("plain_run.1") == "plain_run.1"


def test_without_the_variable_the_message_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from shared.loading.staging import storage

    monkeypatch.delenv("AIRFLOW_VAR_OBJECT_STORAGE_URI")
    with pytest.raises(AirflowFailException, match="variable object_storage_uri is not set"):
        storage("x")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of moto, which speaks S3; there is no S3 here."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    login = {"login": "testing", "password": "testing"}
    extra = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    monkeypatch.setenv("AIRFLOW_CONN_OBJECTS", json.dumps({"conn_type": "aws", **login, "extra": extra}))
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    boto3.client("s3", **extra, **keys).create_bucket(Bucket="lake")
    yield "s3://objects@lake/prefix"
    server.stop()


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_what_is_staged_can_be_read_and_removed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from airflow.sdk import ObjectStoragePath

    from shared.loading.staging import read_parquet, remove, run_folder, write_parquet, write_text

    base = tmp_path.as_uri() if kind == "folder" else request.getfixturevalue("bucket")
    monkeypatch.setenv("AIRFLOW_VAR_OBJECT_STORAGE_URI", base)
    mine, other = run_folder("dag", "manual__1:00"), run_folder("dag", "manual__2:00")
    table = pa.table({"a": [1, 2], "b": [["x"], ["y", "z"]]})
    write_parquet(table, mine / "raw" / "t.parquet")
    write_text("kept ✓", other / "kept.txt")

    handed_on = str(mine / "raw" / "t.parquet")  # what the next task is given
    assert read_parquet(ObjectStoragePath(handed_on)) == table
    remove(mine)
    assert not mine.exists()
    assert (other / "kept.txt").read_text() == "kept ✓"
    remove(mine)  # removed already: nothing to do
