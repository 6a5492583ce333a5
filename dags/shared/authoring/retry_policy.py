"""Which failures are worth another try; evaluated in the worker, on the exception that ended the task."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowNotFoundException

REFUSED = (401, 403)
TOO_MANY_REQUESTS = 429
SQL_REFUSED = ("28000", "28P01", "42501")
"""SQLSTATE: invalid authorization, invalid password, insufficient privilege (PostgreSQL manual, appendix A)."""


class RetryWhatCanHeal(RetryPolicy):
    """Does not retry what a person has to fix, and waits as long as a rate limit asks for.

    A refused login stays refused, and repeating it can lock the account. A connection that does not exist does not
    appear by itself. Everything else follows the `retries` and `retry_delay` of the task.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any | None = None
    ) -> RetryDecision:
        """Decide by the exception and those that led to it; arguments as in `airflow.sdk.RetryPolicy`."""
        for error in _chain(exception):
            if isinstance(error, (PermissionError, AirflowNotFoundException)):
                return RetryDecision.fail(f"{type(error).__name__}: no retry can heal it")
            if _sql_state(error) in SQL_REFUSED:
                return RetryDecision.fail(f"the database refused access (SQLSTATE {_sql_state(error)})")
            status = _http_status(error)
            if status in REFUSED:
                return RetryDecision.fail(f"the server refused access (HTTP {status})")
            if status == TOO_MANY_REQUESTS:
                return RetryDecision.retry(_retry_after(error), "rate limit (HTTP 429)")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Nothing: the policy has no parameters."""
        return {}


def _chain(exception: BaseException) -> Iterator[BaseException]:
    """The exception and its causes: hooks wrap the client's exception, and only that one has the status."""
    error: BaseException | None = exception
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _sql_state(error: BaseException) -> str | None:
    """SQLSTATE as psycopg 2 (`pgcode`) and 3 (`sqlstate`) name it."""
    return getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)


def _http_status(error: BaseException) -> int | None:
    """HTTP status as requests, httpx (`response.status_code`) and botocore (`response` is a map) give it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status
    return getattr(response, "status_code", None)


def _retry_after(error: BaseException) -> timedelta | None:
    """The header Retry-After where it is in seconds; None leaves the wait to the task's own delay."""
    seconds = str(getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", ""))
    return timedelta(seconds=int(seconds)) if seconds.isdecimal() else None
