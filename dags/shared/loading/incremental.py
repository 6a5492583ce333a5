"""Take over only what changed since the last time: a high-water mark, moved in the transaction that used it.

The mark is the newest change that was taken over. Whoever works takes the mark's row first, so of two runs the second
waits and then finds nothing new. If the work fails, the mark stays: the next run takes the same changes again.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from airflow.providers.common.sql.hooks.sql import DbApiHook

from shared.loading.warehouse import TRANSACTION_LIMIT, create, execute, transaction

TABLE = """CREATE TABLE IF NOT EXISTS high_water_marks (
    name TEXT NOT NULL PRIMARY KEY, mark TIMESTAMP WITH TIME ZONE NOT NULL)"""
BEGINNING = "1970-01-01T00:00:00+00:00"
OVERLAP = TRANSACTION_LIMIT + timedelta(minutes=1)
"""A change is stamped when its transaction begins and seen when it ends, which is before `TRANSACTION_LIMIT`, or never.
The minute is for the commit, and for workers whose clocks differ."""


class Taken(NamedTuple):
    """What one pass took over.

    Attributes:
        since: The oldest change that it looked at.
        until: The mark afterwards.
        rows: What the work returned.
    """

    since: str
    until: str
    rows: int


def take_changes(
    hook: DbApiHook,
    name: str,
    newest: str,
    work: Callable[[Any, str], int],
    since: str | None = None,
    overlap: timedelta = OVERLAP,
) -> Taken:
    """Do the work for all changes since the mark and move the mark, in one transaction.

    Args:
        hook: The database.
        name: Of the mark.
        newest: A SELECT of one value: the time of the newest change.
        work: Given a cursor and the time from which on (included) changes count. It must be repeatable: the changes of
            the overlap are taken twice.
        since: Count changes from here on instead, to repair what was taken wrongly; the mark never moves back.
        overlap: How far before the mark changes may still appear: longer than any transaction that writes them takes.
            The default is for those of `shared.loading.warehouse`, which are limited.
    """
    create(hook, [TABLE])
    with transaction(hook, limit=None) as cursor:  # the first time there may be much, and nothing here is stamped
        execute(
            hook,
            cursor,
            "INSERT INTO high_water_marks (name, mark) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET mark = high_water_marks.mark",
            [name, BEGINNING],
        )
        mark = _time(hook, cursor, "SELECT mark FROM high_water_marks WHERE name = ?", [name]) or BEGINNING
        found = _time(hook, cursor, newest, []) or mark
        low = since or (datetime.fromisoformat(mark) - overlap).isoformat()
        rows = work(cursor, low)
        high = max(mark, found)
        execute(hook, cursor, "UPDATE high_water_marks SET mark = ? WHERE name = ?", [high, name])
    return Taken(low, high, rows)


def _time(hook: DbApiHook, cursor: Any, sql: str, parameters: list[Any]) -> str | None:
    """A point in time as ISO 8601 in UTC; Postgres gives a datetime, SQLite the text."""
    execute(hook, cursor, sql, parameters)
    row = cursor.fetchone()
    if not row or row[0] is None:
        return None
    found = row[0] if isinstance(row[0], datetime) else datetime.fromisoformat(row[0])
    return found.astimezone(UTC).isoformat(timespec="seconds")
