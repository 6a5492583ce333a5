"""Which way a run goes, by volume of data, time, or health of a service. Each function gives a word, not a task id.

The limits are those of the Airflow field guides. A DAG maps the words to its tasks, so that a word without a task is an
error of the DAG and not a run that skips everything.
"""

from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

Volume = Literal["small", "medium", "large"]
Moment = Literal["weekend", "business", "off_hours"]
Service = Literal["healthy", "degraded", "unavailable"]

LARGE_ROWS, LARGE_MEGABYTES = 10_000_000, 1000.0
MEDIUM_ROWS, MEDIUM_MEGABYTES = 1_000_000, 100.0
BUSINESS_HOURS = range(9, 17)
"""From 09:00 to 16:59."""
HEALTH_TIMEOUT_SECONDS = 10


def by_volume(rows: int, megabytes: float = 0.0) -> Volume:
    """How much there is: more than either limit makes it larger."""
    if rows > LARGE_ROWS or megabytes > LARGE_MEGABYTES:
        return "large"
    return "medium" if rows > MEDIUM_ROWS or megabytes > MEDIUM_MEGABYTES else "small"


def by_time(moment: datetime, timezone: str) -> Moment:
    """When it is at a place.

    Args:
        moment: With a time zone; of a run take `dag_run.run_after`, which every run has, unlike the logical date.
        timezone: That of the place, such as `America/New_York`.

    Raises:
        ValueError: The moment has no time zone, so it would mean another one on each machine.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone.")
    local = moment.astimezone(ZoneInfo(timezone))
    if local.isoweekday() > 5:
        return "weekend"
    return "business" if local.hour in BUSINESS_HOURS else "off_hours"


def by_health(conn_id: str, endpoint: str) -> Service:
    """The health that a service reports as `{part: {"status": ...}}`: all parts healthy, some not, no such answer."""
    import requests
    from airflow.providers.http.hooks.http import HttpHook

    try:
        options = {"timeout": HEALTH_TIMEOUT_SECONDS}
        answer = HttpHook("GET", conn_id).run(endpoint, extra_options={**options, "check_response": False})
        answer.raise_for_status()
        states = {part.get("status") for part in answer.json().values()}
    except (requests.RequestException, ValueError, AttributeError):
        return "unavailable"
    return "healthy" if states == {"healthy"} else "degraded"
