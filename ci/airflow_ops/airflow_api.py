"""Airflow's public REST API through its official client."""

from typing import Any

import httpx
from airflow_client.client import ApiClient, Configuration
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from airflow_ops.console import fail


@retry(retry=retry_if_exception_type(httpx.TransportError), stop=stop_after_delay(30), wait=wait_fixed(1), reraise=True)
def _token(url: str, user: str, password: str) -> str:
    answer = httpx.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=30)
    if answer.status_code in (401, 403):
        raise fail(f"{url} does not accept the login of {user!r}.", "Check user and password.")
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def api_client(url: str, user: str, password: str) -> ApiClient:
    """Log in and give a client.

    Args:
        url: Address of the API server, without /api/v2.
        user: Name of the user.
        password: The user's password.

    Raises:
        ProblemError: The login is refused.
        httpx.HTTPError: The server does not answer within 30 s, or with an error.
    """
    return ApiClient(Configuration(host=url, access_token=_token(url, user, password)))


def health(url: str, timeout: float = 5) -> dict[str, Any]:
    """Body of the public health endpoint by component, or {} while nothing answers.

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
