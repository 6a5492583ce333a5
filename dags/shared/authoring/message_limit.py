"""How many messages on failures one DAG may send: counted in the warehouse, so that all workers together keep to it."""

import logging
from datetime import UTC, datetime, timedelta
from enum import Enum

from shared.loading.warehouse import create, execute, transaction, warehouse_hook

log = logging.getLogger(__name__)

TABLE = """CREATE TABLE IF NOT EXISTS message_counts (
    sender TEXT NOT NULL, hour TEXT NOT NULL, messages INTEGER NOT NULL, PRIMARY KEY (sender, hour))"""
HOUR = "%Y-%m-%dT%H"


class Verdict(Enum):
    """What becomes of a message."""

    SEND = "send"
    SEND_LAST = "send, and say that it is the last of this hour"
    HOLD_BACK = "log it only"


def admit(sender: str, limit: int, now: datetime | None = None) -> Verdict:
    """Count one message of a sender in this hour (UTC).

    One statement counts and reads, so of any number of workers exactly `limit` send. Where the warehouse does not
    answer, the message is sent: a message too many is better than none.
    """
    try:
        count = _count(sender, now or datetime.now(UTC))
    except Exception:
        log.exception("Messages of %s could not be counted", sender)
        return Verdict.SEND
    if count > limit:
        return Verdict.HOLD_BACK
    return Verdict.SEND_LAST if count == limit else Verdict.SEND


def note(now: datetime | None = None) -> str:
    """What the last message of an hour says beside its content."""
    until = ((now or datetime.now(UTC)) + timedelta(hours=1)).strftime("%H:00 UTC")
    return f"The last message of this DAG until {until}; further ones are only logged."


def _count(sender: str, moment: datetime) -> int:
    hook = warehouse_hook()
    create(hook, [TABLE])
    with transaction(hook) as cursor:
        oldest = (moment - timedelta(days=1)).strftime(HOUR)
        execute(hook, cursor, "DELETE FROM message_counts WHERE hour < ?", [oldest])
        execute(
            hook,
            cursor,
            "INSERT INTO message_counts (sender, hour, messages) VALUES (?, ?, 1) ON CONFLICT (sender, hour) "
            "DO UPDATE SET messages = message_counts.messages + 1 RETURNING messages",
            [sender, moment.strftime(HOUR)],
        )
        return int(cursor.fetchone()[0])
