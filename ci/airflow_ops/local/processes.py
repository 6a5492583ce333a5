"""The four processes of the local Airflow: start, find again, stop. Other processes are never touched."""

import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel, PositiveInt, TypeAdapter

from airflow_ops.console import fail
from airflow_ops.environments.configuration import read_json
from airflow_ops.local.settings import LocalSettings, log_ports, metadata_url
from airflow_ops.paths import ROOT, STATE

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
AIRFLOW = ROOT / ".venv/bin/airflow"
PRIVATE_UMASK = 0o077
"""The metadata database, the warehouse and the logs that these processes make are their owner's alone."""
STOP_SECONDS = 30.0
"""A scheduler waits up to 20 s for its executor when it shuts down; after that it may be killed."""


@dataclass(frozen=True)
class Identity:
    """A process that was started here; its creation time distinguishes it from a later one with the same id."""

    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """The running process, or None."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Entry(BaseModel):
    """One process in the file that records them; see `Identity`."""

    pid: PositiveInt
    created: float


class Record(BaseModel):
    """The file that records port and processes."""

    port: PositiveInt
    components: dict[str, Entry]


RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class LocalProcesses:
    """The processes that belong to one state folder.

    Attributes:
        state: Folder of the local Airflow's state.
    """

    state: Path = STATE

    @property
    def record(self) -> Path:
        """File that records port and processes."""
        return self.state / "processes.json"

    def _record(self) -> Record | None:
        """What the file records; None before the first start."""
        if not os.path.lexists(self.record):
            return None
        return read_json(self.record, self.record, RECORD, "Delete it, after you have ended the processes it names.")

    def _read(self) -> dict[str, dict[str, float]]:
        found = self._record()
        return {name: entry.model_dump() for name, entry in found.components.items()} if found else {}

    def port(self) -> int | None:
        """Port of the last start, or None before the first."""
        found = self._record()
        return found.port if found else None

    def alive(self) -> dict[str, psutil.Process]:
        """Running processes by component."""
        found = {name: Identity(int(entry["pid"]), entry["created"]).process() for name, entry in self._read().items()}
        return {name: process for name, process in found.items() if process}

    def log(self, component: str) -> Path:
        """Log file of a component."""
        return self.state / "logs" / f"{component}.log"

    def start_missing(self, settings: LocalSettings) -> list[str]:
        """Start every component that is not running.

        Returns:
            Names of the components that were started.

        Raises:
            ProblemError: A port is taken by another process.
        """
        alive = self.alive()
        if "api-server" not in alive:
            for port in (settings.port, *log_ports(settings.port)):
                check_port_free(port)
        started = [name for name in COMPONENTS if name not in alive]
        entries = {name: {"pid": p.pid, "created": p.create_time()} for name, p in alive.items()}
        for name in started:
            entries[name] = self._start(name, settings)
            self.record.write_text(json.dumps({"port": settings.port, "components": entries}))
        return started

    def _start(self, name: str, settings: LocalSettings) -> dict[str, float]:
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                [AIRFLOW, name],
                cwd=self.state,
                env={**process_environment(settings), **_own_environment(name, self.state)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=PRIVATE_UMASK,
            )
        return {"pid": child.pid, "created": psutil.Process(child.pid).create_time()}

    def stop(self) -> list[str]:
        """Stop all components with their children; kill those that do not end in `STOP_SECONDS`.

        Returns:
            Names of the components that were stopped.
        """
        alive = self.alive()
        family = [child for process in alive.values() for child in process.children(recursive=True)]
        for process in alive.values():
            process.terminate()
        _, left = psutil.wait_procs(alive.values(), timeout=STOP_SECONDS)
        orphans = [child for child in family if child.is_running()]
        for process in (*left, *orphans):
            process.kill()
        psutil.wait_procs((*left, *orphans), timeout=STOP_SECONDS)
        return list(alive)


def _own_environment(component: str, state: Path) -> dict[str, str]:
    """Settings that one component needs and the others do not.

    In the API server two requests can block each other: one holds the write lock, and the other waits for that lock in
    the event loop, where it writes its audit log, so the first cannot end. A short timeout makes the second one give
    up soon; clients send it again.
    """
    if component != "api-server":
        return {}
    return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url(state, busy_seconds=3)}


def process_environment(settings: LocalSettings) -> dict[str, str]:
    """Environment of an `airflow` process: that of this shell without its Airflow settings, then ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    path = f"{AIRFLOW.parent}{os.pathsep}{inherited.get('PATH', '')}"
    return {**inherited, "PATH": path, **settings.environment, **settings.secrets}


def check_port_free(port: int) -> None:
    """Check that a server can listen on 127.0.0.1:`port`.

    Raises:
        ProblemError: Another process listens there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise fail(
                f"port {port} of 127.0.0.1 is taken ({error.strerror}).",
                "Stop what listens there, or use another port (the next two are used too): make up ARGS='--port 9080'.",
            ) from error


def run_airflow(settings: LocalSettings, *arguments: str) -> None:
    """Run an `airflow` command to its end.

    Raises:
        ProblemError: It ended with an error; its last lines are shown.
    """
    done = subprocess.run(
        [AIRFLOW, *arguments],
        env=process_environment(settings),
        capture_output=True,
        text=True,
        check=False,
        umask=PRIVATE_UMASK,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise fail(
            f"`airflow {' '.join(arguments)}` ended with exit code {done.returncode}:\n{tail}",
            "Correct what the lines above name.",
        )
