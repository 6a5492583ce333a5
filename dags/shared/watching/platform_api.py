"""Airflow's own REST API, read through the connection `airflow_api`: a worker has no database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from airflow.sdk import BaseHook

CONNECTION = "airflow_api"
TIMEOUT_SECONDS = 10
PAGE = 100
"""Airflow's own upper limit, [api] maximum_page_limit."""


def client() -> httpx.Client:
    """A client without a login, for what needs none."""
    connection = BaseHook.get_connection(CONNECTION)
    url = f"{connection.schema or 'http'}://{connection.host}:{connection.port or 8080}"
    return httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS)


@contextmanager
def logged_in() -> Iterator[httpx.Client]:
    """A client with the login of the connection; its token outlives a task."""
    connection = BaseHook.get_connection(CONNECTION)
    login = {"username": connection.login, "password": connection.password}
    with client() as opened:
        token = opened.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        opened.headers["Authorization"] = f"Bearer {token}"
        yield opened


def pages(api: httpx.Client, path: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """All items of a collection, page by page.

    Args:
        api: What `logged_in` gives.
        path: Below `/api/v2`.
        key: The key of the items in the answer, such as `dags`.
        **parameters: Filters and `order_by`.
    """
    offset = 0
    while True:
        query = {**parameters, "limit": PAGE, "offset": offset}
        answer = api.get(f"/api/v2{path}", params=query).raise_for_status().json()
        yield from answer[key]
        offset += PAGE
        if offset >= answer["total_entries"] or not answer[key]:
            return
