"""Airflow's real REST API in this process, over the tests' metadata database."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"


@pytest.fixture(scope="session")
def rest(metadata_database: None) -> Iterator[Any]:
    """A client of the API, logged in."""
    from fastapi.testclient import TestClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", SIMPLE)
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret-of-the-test-that-is-long-enough-for-its-algorithm")
        from airflow.api_fastapi.app import create_app

        with TestClient(create_app(apps="core"), base_url="http://testserver") as client:
            token = client.get("/auth/token").json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield client


@pytest.fixture
def served(rest: "httpx.Client", monkeypatch: pytest.MonkeyPatch) -> "httpx.Client":
    """The API, as what the library's client reaches."""
    from contextlib import nullcontext

    from shared.watching import platform_api

    opened: Callable[[], Any] = lambda: nullcontext(rest)  # noqa: E731
    monkeypatch.setattr(platform_api, "logged_in", opened)
    return rest
