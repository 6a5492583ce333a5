"""Which partition a run is for: a day (`2013-01-15`) or a month (`2013-01`)."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

DAY = "%Y-%m-%d"
MONTH = "%Y-%m"


def day_of(context: Mapping[str, Any]) -> date:
    """The day that a run is for: its partition key, else its logical date (in UTC).

    Raises:
        AirflowFailException: The run has neither, or its key is not a day.
    """
    return _partition(context, DAY, "2013-01-15")


def month_of(context: Mapping[str, Any]) -> date:
    """The first day of the month that a run is for; where it comes from, and the errors, are those of `day_of`."""
    return _partition(context, MONTH, "2013-01").replace(day=1)


def days_of(month: date) -> list[date]:
    """All days of the month that begins on `month`."""
    following = next_month(month)
    return [month + timedelta(days=number) for number in range((following - month).days)]


def next_month(month: date) -> date:
    """The first day of the month after the one that begins on `month`."""
    return (month + timedelta(days=31)).replace(day=1)


def _partition(context: Mapping[str, Any], key_format: str, example: str) -> date:
    run = context["dag_run"]
    if run.partition_key:
        try:
            return datetime.strptime(run.partition_key, key_format).replace(tzinfo=UTC).date()
        except ValueError as error:
            raise AirflowFailException(
                f"partition key {run.partition_key!r} does not fit {key_format}: pass one such as {example}."
            ) from error
    if run.logical_date:
        logical: datetime = run.logical_date
        return logical.astimezone(UTC).date()
    raise AirflowFailException(
        f"run {run.run_id} names no partition: trigger it with a partition key such as {example} or a logical date."
    )
