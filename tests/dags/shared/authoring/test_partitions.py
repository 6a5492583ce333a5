"""Which partition a run is for."""

import datetime as dt
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
def test_a_key_that_is_not_a_day_names_an_example(key: str) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from shared.authoring.partitions import day_of

    with pytest.raises(AirflowFailException, match=f"'{key}' does not fit .* such as 2013-01-15"):
        day_of(context(key))


def test_a_run_without_any_date_names_what_to_pass() -> None:
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
