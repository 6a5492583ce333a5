"""Keeps requests from outside of the cluster away from the API of tasks, whatever stands in front of Airflow.

The Ingress refuses the path already, but some controllers compare an address as it was sent and let `/%65xecution`
through; here it is decoded. Tasks ask by the name of a Service, and people by the name in `[api] base_url`.
"""

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin
from starlette.responses import PlainTextResponse

PATH = "/execution"


def host_of(url: str | None) -> str:
    """Name of the host in a URL; empty if there is none."""
    return (urlsplit(url or "").hostname or "").rstrip(".")


class RefuseOutside:
    """Answers requests from outside for the API of tasks with 404."""

    def __init__(self, app: Any) -> None:
        """Stand before an ASGI application."""
        self.app = app
        self.host = host_of(conf.get("api", "base_url", fallback=""))
        # On one machine both have the same address, and there is no outside.
        if self.host == host_of(conf.get("core", "execution_api_server_url", fallback="")):
            self.host = ""

    def is_from_outside(self, scope: Any) -> bool:
        """Whether a request is for the public name, and for the API of tasks."""
        if scope["type"] != "http" or not self.host:
            return False
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        asked = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        return f"{path}/".startswith(f"{PATH}/") and host_of(f"//{asked}") == self.host

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        app = PlainTextResponse("Not Found", 404) if self.is_from_outside(scope) else self.app
        await app(scope, receive, send)


class OutsidePlugin(AirflowPlugin):
    """Brings it into the API server."""

    name = "platform_outside"
    fastapi_root_middlewares = [{"name": "refuse_outside", "middleware": RefuseOutside}]  # noqa: RUF012
