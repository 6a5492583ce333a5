"""The prober counts what fails, and only that: against a server that answers, refuses, or closes connections."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_ops.colours.record import Probed
from airflow_ops.upgrades import prober
from airflow_ops.waiting import wait_until

KINDS = {"page", "health, new connection", "health, kept connection", "REST, logged in", "execution API"}


class Server:
    """An API server whose mood can be changed: well, or ill (503), or closing what it has answered on."""

    def __init__(self) -> None:
        self.status, self.closes = 200, False
        self.tokens: set[str | None] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(201, b'{"access_token": "t"}')

            def do_GET(self) -> None:
                if self.path.startswith("/api/v2/dags"):
                    outer.tokens.add(self.headers.get("Authorization"))
                self._answer(outer.status, b"{}")
                # Without saying so, as a server that stops does to connections that are idle.
                self.close_connection = outer.closes

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()


@pytest.fixture
def output(server: Server, tmp_path: Path) -> Iterator[Path]:
    """What the running prober prints."""
    path = tmp_path / "output"
    command = [sys.executable, str(prober.PROGRAM), server.url, server.url, "admin"]
    with path.open("w") as file, subprocess.Popen(command, stdout=file, env={"PASSWORD": "p"}) as process:
        yield path
        process.kill()


def counted(output: Path) -> dict[str, Probed]:
    return prober.add({}, output.read_text())


def everything_asked(output: Path, times: int) -> bool:
    found = counted(output)
    return found.keys() == KINDS and all(probed.requests >= times for probed in found.values())


def test_a_server_that_is_well_has_no_failure(server: Server, output: Path) -> None:
    assert wait_until(lambda: everything_asked(output, 4), 20, 0.2)
    assert not [name for name, probed in counted(output).items() if probed.failed]
    assert server.tokens == {"Bearer t"}


def test_a_server_that_closes_idle_connections_has_no_failure(server: Server, output: Path) -> None:
    server.closes = True
    assert wait_until(lambda: everything_asked(output, 4), 20, 0.2)
    assert not [name for name, probed in counted(output).items() if probed.failed]


def test_every_refusal_is_counted_with_its_reason(server: Server, output: Path) -> None:
    assert wait_until(lambda: everything_asked(output, 2), 20, 0.2)
    server.status = 503
    time.sleep(1)
    server.status = 200
    assert wait_until(lambda: all(probed.failed for probed in counted(output).values()), 20, 0.2)
    for name, probed in counted(output).items():
        assert "status 503" in probed.failures[0], name
        assert probed.failed <= probed.requests


def test_a_server_that_is_gone_is_counted(server: Server, output: Path) -> None:
    assert wait_until(lambda: everything_asked(output, 2), 20, 0.2)
    server.http.shutdown()
    server.http.server_close()
    assert wait_until(lambda: counted(output)["page"].failed, 20, 0.2)
    assert counted(output)["page"].failures[0].split()[1].startswith("Connection")


def test_counts_of_an_earlier_prober_are_added_and_a_cut_line_is_left_out() -> None:
    line = {"at": 1.0, "probe": "page", "requests": 4, "failed": 1, "worst_ms": 30}
    error = {"at": 1.0, "probe": "page", "error": "status 500", "ms": 3}
    log = f"{json.dumps(error)}\n{json.dumps(line)}\n" + '{"at": 2.0, "pro'
    before = {"page": Probed(requests=10, failed=0, worst_ms=50)}
    after = prober.add(before, log)["page"]
    assert (after.requests, after.failed, after.worst_ms) == (14, 1, 50)
    assert after.failures == ["1.0 status 500"]
    assert before["page"].requests == 10
