"""Triggers of this platform: they wait in the triggerer, so that no worker pod has to.

They are not part of the bundle, because the triggerer loads no bundle, only what is installed or in the folder of
plugins. So they import nothing from `dags/`, and a change of them comes with a new image.
"""

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class _Polling(BaseTrigger):
    """Asks again and again until there is an answer, or an error that waiting would not change."""

    poke_interval: float

    @abstractmethod
    def probe(self) -> dict[str, Any] | None:
        """Ask once: what was found, or None to ask again."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once with `{"found": ...}`, or with `{"error": ..., "refused": ...}`."""
        while True:
            try:
                # Hooks and file systems block, so each look has a thread of its own and delays no other trigger.
                # A hook may look up its connection from there: Airflow passes that on to the loop of the triggerer.
                found = await asyncio.to_thread(self.probe)
            except Exception as error:
                self.log.exception("Waiting ends with an error")
                refused = isinstance(error, PermissionError)
                reason = f"{type(error).__name__}: {error}"
                yield TriggerEvent({"error": reason, "refused": refused})  # type: ignore[no-untyped-call]
                return
            if found is not None:
                yield TriggerEvent({"found": found})  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.poke_interval)


class ObjectTrigger(_Polling):
    """Waits for a file in object storage that is whole.

    Only "not found" means to wait. A refused access or an unknown bucket stays as it is, and waiting would hide it.

    Args:
        uri: Of the file, as `airflow.sdk.ObjectStoragePath` takes it.
        min_bytes: A smaller file is still being written.
        stable_seconds: How long size and time of change must have stayed the same.
        max_age_seconds: An older file is left over from an earlier run; None takes a file of any age.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self,
        uri: str,
        min_bytes: int = 0,
        stable_seconds: float = 0.0,
        max_age_seconds: float | None = None,
        poke_interval: float = 30.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.uri = uri
        self.min_bytes = min_bytes
        self.stable_seconds = stable_seconds
        self.max_age_seconds = max_age_seconds
        self.poke_interval = poke_interval
        self._seen: tuple[int, datetime] | None = None
        self._since = 0.0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class and arguments, from which another triggerer makes the trigger again."""
        return "platform_triggers.ObjectTrigger", {
            "uri": self.uri,
            "min_bytes": self.min_bytes,
            "stable_seconds": self.stable_seconds,
            "max_age_seconds": self.max_age_seconds,
            "poke_interval": self.poke_interval,
        }

    def probe(self) -> dict[str, Any] | None:
        """Look once: URI, size and time of change of the file if it is whole."""
        from airflow.sdk import ObjectStoragePath

        path = ObjectStoragePath(self.uri)
        path.fs.invalidate_cache()
        try:
            info = path.fs.info(path.path)
            modified = path.fs.modified(path.path) if info["type"] == "file" else None
        except FileNotFoundError:
            modified = None
        if modified is None:
            self._seen = None
            return None
        state = (int(info["size"]), modified)
        if state != self._seen:
            self._seen, self._since = state, time.monotonic()
        if reason := self._unfit(*state):
            self.log.info("%s is there but %s", self.uri, reason)
            return None
        return {"uri": self.uri, "size": state[0], "modified": modified.isoformat()}

    def _unfit(self, size: int, modified: datetime) -> str | None:
        if size < self.min_bytes:
            return f"has {size} of at least {self.min_bytes} bytes"
        age = (datetime.now(UTC) - modified).total_seconds()
        if self.max_age_seconds is not None and age > self.max_age_seconds:
            return f"is {age:.0f} s old, more than {self.max_age_seconds:g} s"
        if time.monotonic() - self._since < self.stable_seconds:
            return f"has not stayed the same for {self.stable_seconds:g} s"
        return None


class RecordTrigger(_Polling):
    """Waits until a query's first cell is neither empty nor 0.

    Args:
        conn_id: Connection to a SQL database.
        sql: The query, written with `?` for parameters and with no other question mark.
        parameters: Their values.
        poke_interval: Seconds between two queries.
    """

    def __init__(self, conn_id: str, sql: str, parameters: list[Any], poke_interval: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.sql = sql
        self.parameters = parameters
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class and arguments, from which another triggerer makes the trigger again."""
        return "platform_triggers.RecordTrigger", {
            "conn_id": self.conn_id,
            "sql": self.sql,
            "parameters": self.parameters,
            "poke_interval": self.poke_interval,
        }

    def probe(self) -> dict[str, Any] | None:
        """Ask once: the first cell, if there is something in it."""
        from airflow.sdk import BaseHook

        hook: Any = BaseHook.get_connection(self.conn_id).get_hook()  # type: ignore[no-untyped-call]
        row = hook.get_first(self.sql.replace("?", hook.placeholder), parameters=tuple(self.parameters))
        return {"value": row[0]} if row and row[0] else None
