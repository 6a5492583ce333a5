"""Refuse and record what a DAG file must not do while it is parsed: read connections or variables, connect, write."""

import os
import sys
from dataclasses import dataclass
from typing import Any, Never

from airflow.secrets import BaseSecretsBackend

ACCESSES = {
    "socket.connect": "opens a network connection",
    "socket.getaddrinfo": "looks up a host",
    "sqlite3.connect": "opens a database",
    "subprocess.Popen": "starts a program",
    "os.system": "starts a program",
}
"""Audit events of CPython (library reference, "Audit events table") that are forbidden while parsing."""
WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Access:
    """A forbidden access, and the innermost line of the bundle that caused it (no file: no line of the bundle did)."""

    what: str
    file: str
    line: int


seen: list[Access] = []
"""The accesses of this process so far; recorded as well as raised, because a DAG file may catch the error."""
root = ""
"""Path of the bundle, with a separator at its end."""


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (`sys.addaudithook`) that records and refuses forbidden accesses."""
    if event in ACCESSES:
        _refuse(f"{ACCESSES[event]} ({event})")
    if event == "open" and _is_writing(*arguments):
        _refuse(f"writes {arguments[0]}")


class NoSecrets(BaseSecretsBackend):
    """A secrets backend that refuses everything; Airflow asks it before all others."""

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Never:
        """Refuse a connection."""
        _refuse(f"reads connection {conn_id!r}")

    def get_variable(self, key: str, team_name: str | None = None) -> Never:
        """Refuse a variable."""
        _refuse(f"reads variable {key!r}")


def _is_writing(path: Any, mode: str | None, flags: int | None) -> bool:
    """Whether a file is opened for writing; a path that is a number is a file descriptor that is open already."""
    return bool(flags and flags & WRITING) and not isinstance(path, int) and path != os.devnull


def _refuse(what: str) -> Never:
    seen.append(Access(what, *_where()))
    raise RuntimeError(f"A DAG file must not do this while it is parsed: it {what}.")


def _where() -> tuple[str, int]:
    frame = sys._getframe(1)
    while frame is not None:
        if root and frame.f_code.co_filename.startswith(root):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return "", 0
