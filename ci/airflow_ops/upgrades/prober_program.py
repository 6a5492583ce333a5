"""Ask an environment's Services what its users ask, ten times a second; runs in a pod, with the standard library only.

Every two seconds it prints a line of JSON for each kind of request, and one for each request that fails.

Usage: python prober_program.py USERS_URL EXECUTION_URL USER       (the password is in the variable PASSWORD)
"""

import http.client
import json
import os
import select
import sys
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PAUSE_SECONDS = 0.5
SUMMARY_SECONDS = 2.0
TIMEOUT_SECONDS = 10
PRINTING = threading.Lock()


def say(**what: object) -> None:
    """Print one line; with one write, so that lines of different threads do not mix."""
    with PRINTING:
        sys.stdout.write(json.dumps({"at": time.time(), **what}) + "\n")
        sys.stdout.flush()


@dataclass
class Probe:
    """One kind of request, sent twice a second.

    Attributes:
        name: Its name in the output.
        url: The address.
        keeps: Whether it keeps its connection, as browsers and clients do.
        headers: Headers to send.
    """

    name: str
    url: str
    keeps: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    _connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Send requests until the pod ends."""
        requests = failed = worst = 0
        until = time.monotonic() + SUMMARY_SECONDS
        while True:
            began = time.monotonic()
            error = self._ask()
            took = round((time.monotonic() - began) * 1000)
            requests, failed, worst = requests + 1, failed + bool(error), max(worst, took)
            if error:
                self._print(error=error, ms=took)
            if time.monotonic() > until:
                self._print(requests=requests, failed=failed, worst_ms=worst)
                requests = failed = worst = 0
                until = time.monotonic() + SUMMARY_SECONDS
            time.sleep(max(0.0, PAUSE_SECONDS - (time.monotonic() - began)))

    def _print(self, **what: object) -> None:
        say(probe=self.name, **what)

    def _ask(self) -> str:
        """Send one request; what went wrong, or nothing."""
        try:
            connection = self._connect()
            parts = urlsplit(self.url)
            connection.request("GET", f"{parts.path}?{parts.query}", headers=self.headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._close()
            return repr(error)
        if not self.keeps or answer.will_close:
            self._close()
        return "" if answer.status < 400 else f"status {answer.status}"

    def _connect(self) -> http.client.HTTPConnection:
        """The kept connection, unless the server has closed it while it was idle, or else a new one."""
        kept = self._connection
        if kept is not None and kept.sock is not None and not select.select([kept.sock], [], [], 0)[0]:
            return kept
        self._close()
        host = urlsplit(self.url).netloc
        self._connection = http.client.HTTPConnection(host, timeout=TIMEOUT_SECONDS)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def token(url: str, user: str) -> str:
    """Log in; waits until the server answers."""
    body = json.dumps({"username": user, "password": os.environ["PASSWORD"]})
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("POST", "/auth/token", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 400:
        sys.exit(f"login: status {answer.status}")
    return str(json.loads(content)["access_token"])


def main() -> None:
    """Start a thread for each kind of request."""
    users, execution, user = sys.argv[1:]
    authorized = {"Authorization": f"Bearer {token(users, user)}"}
    probes = [
        Probe("page", f"{users}/"),
        Probe("health, new connection", f"{users}/api/v2/monitor/health"),
        Probe("health, kept connection", f"{users}/api/v2/monitor/health", keeps=True),
        Probe("REST, logged in", f"{users}/api/v2/dags/~/dagRuns?limit=5&order_by=-run_after", headers=authorized),
        Probe("execution API", f"{execution}/execution/health"),
    ]
    threads = [threading.Thread(target=probe.run) for probe in probes]
    for thread in threads:
        thread.start()
    say(probe="", began=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
