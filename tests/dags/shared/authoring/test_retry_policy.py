"""What is retried and what is not, by the exceptions that clients really raise."""

from collections.abc import Callable
from datetime import timedelta

import botocore.exceptions
import httpx
import psycopg2.errors
import pytest
import requests
from airflow.models.dagrun import DagRun
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

from shared.authoring.retry_policy import RetryWhatCanHeal


def by_requests(status: int, headers: dict[str, str] | None = None) -> Exception:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers or {})
    return requests.HTTPError(response=response)


def by_httpx(status: int) -> Exception:
    request = httpx.Request("GET", "http://api.example")
    return httpx.HTTPStatusError("refused", request=request, response=httpx.Response(status, request=request))


def by_botocore(status: int, code: str) -> Exception:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(answer, "PutObject")  # type: ignore[arg-type]


def wrapped(cause: Exception) -> Exception:
    """As hooks do: the client's error is the context of Airflow's."""
    try:
        try:
            raise cause
        except type(cause):
            raise AirflowException("403:Forbidden")  # noqa: B904
    except AirflowException as error:
        return error


def after_it_was_handled() -> Exception:
    """A fault that has nothing to do with the refusal before it."""
    try:
        try:
            raise by_requests(403)
        except requests.HTTPError:
            raise ConnectionError("the fallback is down") from None
    except ConnectionError as error:
        return error


class InsufficientPrivilege(Exception):  # noqa: N818  named as psycopg 3 names it
    sqlstate = "42501"


@pytest.mark.parametrize(
    "error",
    [
        by_requests(401),
        by_requests(403),
        by_httpx(401),
        by_botocore(403, "AccessDenied"),
        wrapped(by_requests(403)),
        PermissionError("/data"),
        AirflowNotFoundException("The conn_id `x` isn't defined"),
        InsufficientPrivilege(),
    ],
    ids=repr,
)
def test_what_a_person_must_mend_is_not_retried(error: Exception) -> None:
    decision = RetryWhatCanHeal().evaluate(error, 1, 3)

    assert decision.action is RetryAction.FAIL
    assert decision.reason


@pytest.mark.parametrize(
    "error",
    [
        by_requests(500),
        by_requests(404),
        by_httpx(503),
        by_botocore(503, "SlowDown"),
        psycopg2.errors.SerializationFailure(),
        ConnectionError(),
        ValueError(),
        requests.ConnectionError(),
        after_it_was_handled(),
    ],
    ids=repr,
)
def test_all_else_follows_the_task(error: Exception) -> None:
    assert RetryWhatCanHeal().evaluate(error, 1, 3).action is RetryAction.DEFAULT


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({"Retry-After": "120"}, timedelta(seconds=120)), ({}, None), ({"Retry-After": "Wed, 21 Oct 2026"}, None)],
)
def test_a_rate_limit_says_how_long_to_wait(headers: dict[str, str], wait: timedelta | None) -> None:
    decision = RetryWhatCanHeal().evaluate(by_requests(429, headers), 1, 3)

    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, wait)


FAILING = """
from datetime import timedelta
from airflow.sdk import dag, task
from shared.authoring.defaults import default_args

@dag(schedule=None, default_args=default_args("sales", retries=1, retry_delay=timedelta(milliseconds=1)))
def sales_load_orders():
    @task
    def load():
        raise ERROR
    load()

sales_load_orders()
"""


@pytest.mark.parametrize(("error", "tries"), [("PermissionError()", 1), ("ConnectionError()", 2)])
def test_airflow_asks_it(run_text: Callable[[str, str], DagRun], error: str, tries: int) -> None:
    """In a whole run with one retry, a refusal ends the task in its first try."""
    run = run_text("sales_load_orders", FAILING.replace("ERROR", error))

    assert run.state == "failed"
    assert [ti.try_number for ti in run.get_task_instances()] == [tries]
