"""An API server that knows one Lease, and refuses a write to an older version of it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kubernetes import client

from airflow_ops.cluster import lease


@dataclass
class LeaseServer:
    """What the server holds, and how it answers.

    Attributes:
        stored: The Lease; None where there is none.
        is_away: Whether every request fails.
        loses_answers: Whether it does what it is asked to, and then fails.
    """

    stored: dict[str, Any] | None = None
    is_away: bool = False
    loses_answers: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, body: Any) -> tuple[int, Any]:
        with self.lock:
            if self.is_away:
                return 503, {"message": "away"}
            if method == "GET":
                return (200, self.stored) if self.stored else (404, {"message": "not found"})
            version = body["metadata"].get("resourceVersion")
            present = self.stored["metadata"]["resourceVersion"] if self.stored else None
            if version != present:
                return 409, {"message": "the object has been modified"}
            for key in ("acquireTime", "renewTime"):
                if key in body["spec"] and "." not in body["spec"][key]:
                    return 400, {"message": f"{key} has no fraction"}
            body["metadata"]["resourceVersion"] = str(int(present or 0) + 1)
            self.stored = body
            return (500, {"message": "lost"}) if self.loses_answers else (200, body)

    def held_by(self, who: str, verb: str = "restore") -> None:
        """Somebody else takes the Lease, or renews it."""
        with self.lock:
            version = int(self.stored["metadata"]["resourceVersion"]) if self.stored else 0
            now = "2026-11-27T10:00:00.000001Z"
            self.stored = {
                "metadata": {
                    "name": lease.NAME,
                    "resourceVersion": str(version + 1),
                    "annotations": {lease.VERB: verb},
                },
                "spec": {"holderIdentity": who, "leaseDurationSeconds": 30, "acquireTime": now, "renewTime": now},
            }

    @property
    def holder(self) -> str:
        return self.stored["spec"]["holderIdentity"] if self.stored else ""


@contextmanager
def serving(answer: Callable[[str, str, Any], tuple[int, Any]]) -> Iterator[Any]:
    """Serve an API on this machine for the duration of a `with` block.

    Args:
        answer: From method, path and body of a request to status and body of the answer.

    Yields:
        A client of it, which repeats no request.
    """

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 the names that http.server calls

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    settings = client.Configuration(host=f"http://127.0.0.1:{http.server_port}")
    settings.retries = False
    try:
        yield client.ApiClient(settings)
    finally:
        http.shutdown()
        http.server_close()
