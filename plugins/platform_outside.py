"""Keeps requests from outside of the cluster away from the API of tasks, whatever stands in front of Airflow.

The Ingress refuses the path already, but some controllers compare an address as it was sent and let `/%65xecution`
through; here it is decoded. Whoever may ask for it uses a name that is known inside alone: that of a Service, the
address of a pod, or the host of `[core] execution_api_server_url`. Every other name is refused.
"""

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.executors.base_executor import get_execution_api_server_url
from airflow.plugins_manager import AirflowPlugin
from starlette.responses import PlainTextResponse

PATH = "/execution"
HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+?))\.?(?::[0-9]*)?", re.ASCII)
"""A `Host` header, in small letters."""
SERVICE = re.compile(r"airflow(-exec-(blue|green))?(\.[a-z0-9-]+(\.svc(\.[a-z0-9.-]+)?)?)?", re.ASCII)
"""Services of charts/platform, also with the namespace and the domain of the cluster."""


def host_of_url(url: str) -> str:
    """Name of the host in a URL; empty if there is none, or if the URL is malformed."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def host_of_header(header: bytes) -> str:
    """Name of the host in a header; empty if it is malformed."""
    found = HOST.fullmatch(header.decode("latin-1").strip().lower())
    return (found["six"] or found["name"]) if found else ""


def is_address_inside(host: str, server: str) -> bool:
    """Whether it is an address that the internet has no way to, or that of this pod, which probes use."""
    try:
        return not ipaddress.ip_address(host).is_global or host == server
    except ValueError:
        return False


class RefuseOutside:
    """Answers requests from outside for the API of tasks with 404."""

    def __init__(self, app: Any) -> None:
        """Stand before an ASGI application."""
        self.app = app
        # Without [core] execution_api_server_url this is the host of [api] base_url: tasks use the public name then.
        self.tasks = host_of_url(get_execution_api_server_url())
        self.public = host_of_url(conf.get("api", "base_url", fallback=""))

    def is_inside(self, host: str, server: str) -> bool:
        """Whether a name is one that only callers inside use."""
        if not host:
            return False
        if host in ("localhost", self.tasks) or is_address_inside(host, server):
            return True
        # A public name may look like that of a Service with its namespace: airflow.example.
        return SERVICE.fullmatch(host) is not None and ("." not in host or host != self.public)

    def is_refused(self, scope: Any) -> bool:
        """Whether a request is for the API of tasks, and not from inside."""
        path, root = scope["path"], scope.get("root_path", "").rstrip("/")
        if not any(f"{each}/".startswith(f"{PATH}/") for each in (path, path.removeprefix(root))):
            return False
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        # A proxy that asks with another name than it was asked for tells the first one here.
        forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-host"]
        server = (scope.get("server") or ("",))[0]
        return len(hosts) != 1 or not all(self.is_inside(host_of_header(each), server) for each in hosts + forwarded)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        refused = scope["type"] == "http" and self.is_refused(scope)
        await (PlainTextResponse("Not Found", 404) if refused else self.app)(scope, receive, send)


class OutsidePlugin(AirflowPlugin):
    """Brings it into the API server."""

    name = "platform_outside"
    fastapi_root_middlewares = [{"name": "refuse_outside", "middleware": RefuseOutside}]  # noqa: RUF012
