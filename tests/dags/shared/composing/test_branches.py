"""Branches: the word for each case."""

import datetime as dt
from typing import Any

import pytest

from shared.composing import branches

NEW_YORK = "America/New_York"


@pytest.mark.parametrize(
    ("rows", "megabytes", "word"),
    [
        (1_000_000, 100, "small"),
        (1_000_001, 0, "medium"),
        (0, 100.1, "medium"),
        (10_000_000, 1000, "medium"),
        (10_000_001, 0, "large"),
        (0, 1000.1, "large"),
    ],
)
def test_by_volume(rows: int, megabytes: float, word: str) -> None:
    assert branches.by_volume(rows, megabytes) == word


@pytest.mark.parametrize(
    ("moment", "word"),
    [
        ("2013-01-04T14:00+00:00", "business"),  # Friday 09:00
        ("2013-01-04T13:59+00:00", "off_hours"),
        ("2013-01-04T21:59+00:00", "business"),
        ("2013-01-04T22:00+00:00", "off_hours"),
        ("2013-01-05T04:59+00:00", "off_hours"),  # still Friday in New York
        ("2013-01-05T05:00+00:00", "weekend"),
        ("2013-01-07T04:59+00:00", "weekend"),  # Monday in London
    ],
)
def test_by_time(moment: str, word: str) -> None:
    assert branches.by_time(dt.datetime.fromisoformat(moment), NEW_YORK) == word


def test_a_moment_without_time_zone_is_an_error() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        branches.by_time(dt.datetime(2013, 1, 4), NEW_YORK)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("status", "text", "word"),
    [
        (200, '{"a": {"status": "healthy"}, "b": {"status": "healthy"}}', "healthy"),
        (200, '{"a": {"status": "healthy"}, "b": {"status": null}}', "degraded"),
        (200, "<html>", "unavailable"),
        (200, "[]", "unavailable"),
        (503, '{"a": {"status": "healthy"}}', "unavailable"),
    ],
)
def test_by_health(answer: list[Any], status: int, text: str, word: str) -> None:
    answer[:] = [status, text]
    assert branches.by_health("airflow_api", "/health") == word


def test_a_service_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", "http://127.0.0.1:9")
    assert branches.by_health("airflow_api", "/health") == "unavailable"
