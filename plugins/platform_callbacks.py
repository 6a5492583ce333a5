"""What the triggerer calls when a run misses its deadline; here, because the triggerer loads no bundle."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

log = logging.getLogger(__name__)

SLACK_TIMEOUT_SECONDS = 10


async def notify_missed_deadline(
    context: Mapping[str, Any], slack_connection: str, channel: str, page: str | None = None
) -> str:
    """Send a message to Slack that a run is late; the alert AirflowDeadlineMissed reaches whoever is on call.

    Args:
        context: What Airflow says of the missed deadline: `dag_run` as the REST API has it, and `deadline`.
        slack_connection: Id of the connection of type `slack`; where it does not exist, the message is logged.
        channel: Of Slack.
        page: URL of the DAG's page.

    Returns:
        What became of the message; Airflow keeps it with the callback.
    """
    run = context["dag_run"]
    title = f"DEADLINE MISSED {run['dag_id']}"
    fields = {"Run": run["dag_run_id"], "State": run["state"], "Needed by": str(context["deadline"]["deadline_time"])}
    links = {"Run": f"{page}/runs/{quote(run['dag_run_id'], safe='')}", "Runbook": page} if page else {}
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title[:150]}},
        {
            "type": "section",
            "fields": [{"type": "mrkdwn", "text": f"*{name}*\n{text}"} for name, text in fields.items()],
        },
    ]
    if links:
        text = " · ".join(f"<{url}|{name}>" for name, url in links.items())
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text}})
    return await asyncio.to_thread(_send, slack_connection, {"channel": channel, "text": title, "blocks": blocks})


def _send(slack_connection: str, message: dict[str, Any]) -> str:
    """The provider's hook looks its connection up synchronously, which the triggerer's loop must not."""
    from airflow.providers.slack.hooks.slack import SlackHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        hook = SlackHook(slack_conn_id=slack_connection, timeout=SLACK_TIMEOUT_SECONDS)
        hook.call("chat.postMessage", json=message)
    except AirflowNotFoundException:
        log.warning("Not sent to Slack: connection %r does not exist. Message: %s", slack_connection, message)
        return f"logged: connection {slack_connection!r} does not exist"
    return f"sent to {message['channel']}"
