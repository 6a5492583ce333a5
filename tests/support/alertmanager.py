"""A running Alertmanager, and which alerts it inhibits."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from support.statsd_exporter import free_ports

Labels = dict[str, str]
PROGRAMS = ("alertmanager", "prometheus-alertmanager")
"""Its own name, and that of Debian's package."""


def find_alertmanager() -> str | None:
    """Path of the program; None where it is not installed."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Alertmanager:
    """A running Alertmanager."""

    def __init__(self, url: str) -> None:
        """Talk to the one at `url`."""
        self._api = f"{url}/api/v2"

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self._api}/status", timeout=1).is_success
        except httpx.TransportError:
            return False

    def send(self, alerts: list[Labels], *, firing: bool) -> None:
        """Report that alerts fire, or that they no longer do."""
        now = datetime.now(UTC)
        ends = now + timedelta(hours=1) if firing else now - timedelta(seconds=1)
        times = {"startsAt": (now - timedelta(minutes=1)).isoformat(), "endsAt": ends.isoformat()}
        body = [{"labels": labels} | times for labels in alerts]
        httpx.post(f"{self._api}/alerts", json=body, timeout=10).raise_for_status()

    def firing(self) -> list[tuple[Labels, bool]]:
        """Every firing alert, and whether another one inhibits it."""
        found = httpx.get(f"{self._api}/alerts", timeout=10).raise_for_status().json()
        return [(alert["labels"], bool(alert["status"]["inhibitedBy"])) for alert in found]

    def kept_back(self, alerts: list[Labels]) -> list[Labels]:
        """Which of these alerts are not sent while all of them fire."""
        self.send(alerts, firing=True)
        wait(lambda: len(self.firing()) == len(alerts))
        found = [labels for labels, kept in self.firing() if kept]
        self.send(alerts, firing=False)
        wait(lambda: not self.firing())
        return found


def wait(look: Callable[[], bool]) -> None:
    """Wait until `look` is true; half a minute at most."""
    for _ in range(600):
        if look():
            return
        time.sleep(0.05)
    raise AssertionError("the Alertmanager did not get there in half a minute")


@contextmanager
def running_alertmanager(config: Path, folder: Path) -> Iterator[Alertmanager]:
    """An Alertmanager with this configuration, which finds no Secrets and so sends nothing."""
    program = find_alertmanager()
    assert program is not None
    (port,) = free_ports(1)
    command = [program, f"--config.file={config}", f"--storage.path={folder}", "--cluster.listen-address="]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            found = Alertmanager(f"http://127.0.0.1:{port}")
            wait(lambda: process.poll() is not None or found.ready())
            assert process.poll() is None, "it does not start with this configuration"
            yield found
        finally:
            process.kill()
