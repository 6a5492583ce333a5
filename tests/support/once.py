"""Work that all processes of one test session share: who comes first does it, the others read what it wrote."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest


def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of one session share, and that the next session does not have."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "once"
    folder.mkdir(exist_ok=True)
    return folder


def digest(parts: Iterable[str | bytes]) -> str:
    """One digest of several texts, which differs where one of them or their order does."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def folder_digest(*folders: Path) -> str:
    """The digest of all files below some folders: of their paths, and of their contents, through links."""
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return digest(part for file in files for part in (str(file), file.read_bytes()))


def once(folder: Path, key: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, as JSON would give it back; made by the first process that asks for the key.

    Args:
        folder: The folder of the session.
        key: A digest of everything that the result depends on.
        make: Makes it. What it raises reaches the caller, and nothing is kept.
    """
    kept = folder / f"{key}.json"
    with (folder / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(make()))
    return json.loads(kept.read_text())
