"""Note what a DAG file does while it is parsed and must not do: read a connection or variable, reach out, write."""

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
"""Audit events of CPython (library reference, "Audit events table") that parsing has no business with."""
WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Access:
    """Something that was done, and the innermost line of the bundle that led to it (no file: none did)."""

    what: str
    file: str
    line: int


seen: list[Access] = []
"""What this process has done so far; kept apart from the error raised, for a file may swallow that."""
root = ""
"""Where the bundle stands, with a separator at its end."""


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (`sys.addaudithook`) that refuses what it notes."""
    if event in ACCESSES:
        _refuse(f"{ACCESSES[event]} ({event})")
    if event == "open" and _is_writing(*arguments):
        _refuse(f"writes {arguments[0]}")


class NoSecrets(BaseSecretsBackend):
    """The secrets backend that is asked before all others."""

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Never:
        """Refuse a connection."""
        _refuse(f"reads connection {conn_id!r}")

    def get_variable(self, key: str, team_name: str | None = None) -> Never:
        """Refuse a variable."""
        _refuse(f"reads variable {key!r}")


def _is_writing(path: Any, mode: str | None, flags: int | None) -> bool:
    """Whether a file of that name is opened to be written; what is open already comes as a number."""
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
