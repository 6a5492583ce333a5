"""Airflow's public REST API through its official client."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from airflow_client.client import (
    ApiClient,
    Configuration,
    DAGApi,
    DAGPatchBody,
    DagRunApi,
    ImportErrorApi,
    TriggerDAGRunPostBody,
)
from airflow_client.client.exceptions import ApiException, ConflictException
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from urllib3 import Retry

from airflow_ops.console import fail

if TYPE_CHECKING:
    # Only for its type: `make up` talks to Airflow without the Kubernetes client, which takes half a second to import.
    from airflow_ops.cluster.connection import Cluster
    from airflow_ops.environments.environment import Environment


PAGE = 100
"""Items per page: the API allows no more than 100 (`[api] maximum_page_limit`)."""


@retry(retry=retry_if_exception_type(httpx.TransportError), stop=stop_after_delay(30), wait=wait_fixed(1), reraise=True)
def _token(url: str, user: str, password: str) -> str:
    answer = httpx.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=30)
    if answer.status_code in (401, 403):
        raise fail(f"{url} does not accept the login of {user!r}.", "Check user and password.")
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def api_client(url: str, user: str, password: str) -> ApiClient:
    """Log in and return a client.

    Args:
        url: Address of the API server, without /api/v2.
        user: Name of the user.
        password: The user's password.

    Raises:
        ProblemError: The login is refused.
        httpx.HTTPError: The server does not answer within 30 s, or with an error.
    """
    settings = Configuration(host=url, access_token=_token(url, user, password))
    # A busy server answers 5xx for a moment. Requests name what they create, so a retry creates nothing twice.
    settings.retries = Retry(
        total=6, backoff_factor=0.5, status_forcelist=[500, 502, 503, 504], allowed_methods=None, raise_on_status=False
    )
    return ApiClient(settings)


@contextlib.contextmanager
def login(cluster: "Cluster") -> Iterator[ApiClient]:
    """A client of the environment's Airflow, logged in as the first Admin of `platform.users`.

    Raises:
        ProblemError: There is no such user or password, or Airflow cannot be reached.
    """
    admin, secret = first_admin(cluster.environment), cluster.environment.secret("users")
    passwords = cluster.secret(secret) or {}
    if admin not in passwords:
        raise fail(
            f"no Admin of platform.users has a password in Secret {secret} of {cluster.namespace}.",
            "airflow-ops logs in as one: name the user in values/ and its password in that Secret.",
        )
    with cluster.forward("airflow", 8080) as url:
        yield api_client(url, admin, passwords[admin])


def first_admin(environment: "Environment") -> str:
    """The user that commands log in as: the first Admin of `platform.users`; empty if there is none."""
    users = environment.values["platform"]["users"]
    return next((name for name, user in users.items() if user["role"] == "Admin"), "")


def trigger(
    client: ApiClient,
    dag_id: str,
    note: str | None = None,
    partition: str | None = None,
    conf: dict[str, Any] | None = None,
    logical_date: datetime | None = None,
) -> str:
    """Start one run of a DAG now; a request that is sent again starts no second run.

    Args:
        client: Client of the running Airflow.
        dag_id: The DAG.
        note: What the run is for; shown on its page.
        partition: Partition key of the run, which then has no logical date.
        conf: The run's conf.
        logical_date: Logical date of the run; now where neither this nor a partition is given.

    Returns:
        The run's id.
    """
    now = datetime.now(UTC)
    run_id = f"manual__{now.isoformat()}"
    moment = None if partition else logical_date or now
    body = TriggerDAGRunPostBody(
        dag_run_id=run_id, logical_date=moment, note=note, partition_key=partition, conf=conf or {}
    )
    with contextlib.suppress(ConflictException):
        DagRunApi(client).trigger_dag_run(dag_id, body)
    return run_id


def unpause(client: ApiClient, dag_id: str) -> bool:
    """Unpause a DAG.

    The answer is not read by the client: one from Airflow 3.2 lacks fields that the client of 3.3 asks for.

    Args:
        client: Client of the running Airflow.
        dag_id: The DAG.

    Returns:
        Whether there is such a DAG that can run: it is stale while its file is gone or cannot be imported.

    Raises:
        ApiException: The API refuses.
    """
    answer = DAGApi(client).patch_dag_without_preload_content(dag_id, DAGPatchBody(is_paused=False))
    if answer.status not in (200, 404):
        raise ApiException(status=answer.status, reason=answer.reason)
    return bool(answer.status == 200 and not json.loads(answer.data)["is_stale"])


def health(url: str, timeout: float = 5) -> dict[str, Any]:
    """The answer of the public health endpoint by component, or {} while nothing answers.

    Args:
        url: Address of the API server.
        timeout: Seconds to wait for the answer.
    """
    try:
        answer = httpx.get(f"{url}/api/v2/monitor/health", timeout=timeout)
    except httpx.TransportError:
        return {}
    body: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return body


def pages(ask: Any, field: str, *arguments: str, **filters: Any) -> Iterator[Any]:
    """All items of a listing, page by page.

    Args:
        ask: A method of a client.
        field: Where its answer has the items.
        *arguments: What it is called with.
        **filters: What else it is called with, by name.
    """
    offset = 0
    while True:
        answer = ask(*arguments, limit=PAGE, offset=offset, **filters)
        yield from getattr(answer, field)
        offset += PAGE
        if offset >= answer.total_entries:
            return


def import_errors(client: ApiClient) -> list[Any]:
    """Every DAG file that cannot be imported, with its bundle and stack trace."""
    return list(pages(ImportErrorApi(client).get_import_errors, "import_errors"))


def import_errors_of(cluster: "Cluster") -> list[str]:
    """The DAG files that the environment's Airflow cannot import; see `files_with_errors`.

    Raises:
        ProblemError: See `login`.
    """
    with login(cluster) as client:
        return files_with_errors(client)


def files_with_errors(client: ApiClient) -> list[str]:
    """The DAG files that cannot be imported, each with its bundle, sorted."""
    return sorted(f"{error.bundle_name}:{error.filename}" for error in import_errors(client))
