"""How many messages about failures one DAG may send in an hour: counted in the warehouse, over all workers."""

import logging
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Literal

from shared.loading.warehouse import create, execute, transaction, warehouse_hook

log = logging.getLogger(__name__)

TABLE = """CREATE TABLE IF NOT EXISTS message_counts (
    sender TEXT NOT NULL, hour TEXT NOT NULL, messages INTEGER NOT NULL, PRIMARY KEY (sender, hour))"""
HOUR = "%Y-%m-%dT%H"


class Verdict(Enum):
    """What `admit` says of a message that is not to be sent."""

    HELD_BACK = "held back"


def admit(sender: str, limit: int, now: datetime | None = None) -> str | Literal[Verdict.HELD_BACK]:
    """Count one message of a sender in this hour (UTC).

    One statement counts and reads, so of any number of workers exactly `limit` send. Where the warehouse does not
    answer, the message is sent: one too many is better than none.

    Returns:
        `Verdict.HELD_BACK` beyond the limit; for the last message a note that it is the last; else an empty text.
    """
    moment = now or datetime.now(UTC)
    try:
        count = _count(sender, moment)
    except Exception:
        log.exception("Messages of %s could not be counted", sender)
        return ""
    if count > limit:
        return Verdict.HELD_BACK
    until = (moment + timedelta(hours=1)).strftime("%H:00 UTC")
    return f"The last message of this DAG until {until}; further ones are only logged." if count == limit else ""


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
