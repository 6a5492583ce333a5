"""Messages about tasks and DAG runs: the callbacks that send them.

A callback never changes how a task ends: whatever goes wrong in it is logged. Where the connection to a service does
not exist, the message is logged with that reason, so that an environment without Slack shows what it would have sent.
Titles, fields and lengths are those of the Airflow production field guides. Providers are imported when a message is
sent, not when a DAG file is parsed.
"""

import functools
import html
import logging
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec
from urllib.parse import quote

from airflow.providers.common.compat.sdk import conf, redact
from airflow.sdk.exceptions import AirflowNotFoundException

from shared.authoring.settings import environment_name, settings
from shared.configuration import CONFIG, Closed, Text, read

CRITICAL = "critical"
"""The tag of a DAG whose failure pages somebody."""
SLACK_ERROR_LENGTH = 200
PAGE_ERROR_LENGTH = 500
SLACK_TIMEOUT_SECONDS = 10

Context = Mapping[str, Any]
P = ParamSpec("P")
log = logging.getLogger(__name__)


def _never_raises(send: Callable[P, None]) -> Callable[P, None]:
    """Log the faults of a function that sends a message: they must stop neither the task nor the next message."""

    @functools.wraps(send)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            send(*args, **kwargs)
        except Exception:
            log.exception("%s failed", send.__name__.lstrip("_"))

    return guarded


@_never_raises
def notify_failure(context: Context) -> None:
    """Report a task that failed for good; for a task's `on_failure_callback`.

    Goes to Slack, and to PagerDuty too if the DAG has the tag `critical`.
    """
    error = _error(context)
    _send_failure(context, what=_task_name(context), error=error)


@_never_raises
def notify_run_failure(context: Context) -> None:
    """Report a DAG run that timed out or is deadlocked; for a DAG's `on_failure_callback`.

    Sends nothing if a task failed: `notify_failure` has reported that, with the error.
    """
    if context.get("reason") != "task_failure":
        _send_failure(context, what=context["dag"].dag_id, error=f"the DAG run ended with {context.get('reason')}")


@_never_raises
def notify_success(context: Context) -> None:
    """Report a DAG run that succeeded; for a DAG's `on_success_callback` (in `default_args` each task would report)."""
    dag_id = context["dag"].dag_id
    _send_slack(f"SUCCESS {dag_id}", {"DAG": dag_id, "Run": _run_id(context)}, _links(context), channel(_team(context)))


@_never_raises
def log_retry(context: Context) -> None:
    """Log that a task will be tried again; for a task's `on_retry_callback`. No message: the next try may succeed."""
    attempt, attempts = context["ti"].try_number, context["ti"].max_tries + 1
    log.warning("%s failed in try %s of %s: %s", _task_name(context), attempt, attempts, _error(context))


def _send_failure(context: Context, what: str, error: str) -> None:
    """Slack and e-mail as often as the environment allows, PagerDuty always."""
    critical = CRITICAL in context["dag"].tags
    title = f"{'CRITICAL' if critical else 'FAILURE'} {what}"
    ti = context.get("ti")
    fields = {
        "DAG": context["dag"].dag_id,
        "Task": getattr(ti, "task_id", "none"),
        "Run": _run_id(context),
        "Try": str(getattr(ti, "try_number", "none")),
        "Error": error[:SLACK_ERROR_LENGTH],
    }
    from shared.authoring.message_limit import Verdict, admit

    verdict = admit(context["dag"].dag_id, settings().notifications.failures_an_hour)
    if verdict is Verdict.HELD_BACK:
        log.warning("Held back, this DAG has sent its messages of this hour. Message: %s %s", title, fields)
    else:
        fields |= {"Note": verdict} if verdict else {}
        _send_slack(title, fields, _links(context), channel(_team(context)))
        _send_email(title, fields, _links(context), _team(context))
    if critical:
        _send_page(context, what, error)


@_never_raises
def _send_slack(title: str, fields: dict[str, str], links: dict[str, str], to: str) -> None:
    """Post one message of Block Kit blocks to a channel."""
    connection = settings().notifications.slack_connection
    blocks = _blocks(title, fields, links)
    try:
        from airflow.providers.slack.hooks.slack import SlackHook

        hook = SlackHook(slack_conn_id=connection, timeout=SLACK_TIMEOUT_SECONDS)
        hook.call("chat.postMessage", json={"channel": to, "text": title, "blocks": blocks})
    except AirflowNotFoundException:
        reason = f"connection {connection!r} does not exist"
        log.warning("Not sent to Slack %s: %s. Message: %s %s", to, reason, title, fields)


@_never_raises
def _send_email(title: str, fields: dict[str, str], links: dict[str, str], team: str) -> None:
    """Write to the team's address, if the environment notifies teams, and by e-mail."""
    chosen = settings().notifications
    address = teams()[team].email if team in teams() else None
    if chosen.email_connection is None or not chosen.by_team or address is None:
        return
    try:
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        lines = [f"<b>{html.escape(name)}</b>: {html.escape(text)}" for name, text in fields.items()]
        lines += [f'<a href="{html.escape(url)}">{name}</a>' for name, url in links.items()]
        with SmtpHook(smtp_conn_id=chosen.email_connection) as smtp:
            smtp.send_email_smtp(to=address, subject=title, html_content="<br>".join(lines))
    except AirflowNotFoundException:
        reason = f"connection {chosen.email_connection!r} does not exist"
        log.warning("No e-mail to %s: %s. Message: %s", address, reason, title)


class Team(Closed):
    """Where a team is notified.

    Attributes:
        slack_channel: Channel, with its `#`.
        email: Address; None for a team that wants no e-mail.
    """

    slack_channel: Text
    email: Text | None = None


@functools.cache
def teams() -> dict[str, Team]:
    """All teams of `dags/config/teams.yaml`."""
    return read(CONFIG / "teams.yaml", dict[str, Team])


def channel(team: str) -> str:
    """The Slack channel in which a team is notified in this environment."""
    chosen = settings().notifications
    return teams()[team].slack_channel if chosen.by_team and team in teams() else chosen.slack_channel


def page_of(dag_id: str) -> str | None:
    """The page of a DAG, on which its documentation says what to do if it fails; None without [api] base_url."""
    base = conf.get("api", "base_url", fallback=None)
    return f"{base.rstrip('/')}/dags/{quote(dag_id)}" if base else None


def _links(context: Context) -> dict[str, str]:
    """Log, run and runbook: the DAG's documentation on its page is its runbook."""
    page, log_url = page_of(context["dag"].dag_id), getattr(context.get("ti"), "log_url", None)
    links = {"Log": log_url, "Run": page and f"{page}/runs/{quote(_run_id(context), safe='')}", "Runbook": page}
    return {name: url for name, url in links.items() if url}


def _team(context: Context) -> str:
    return str((getattr(context["dag"], "default_args", None) or {}).get("owner", ""))


def _blocks(title: str, fields: dict[str, str], links: dict[str, str]) -> list[dict[str, Any]]:
    """Block Kit: a header, the fields in two columns, the links."""
    columns = [
        {"type": "mrkdwn", "text": f"*{name}*\n{html.escape(text, quote=False)}"} for name, text in fields.items()
    ]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title[:150]}},
        {"type": "section", "fields": columns},
    ]
    if links:
        text = " · ".join(f"<{url}|{name}>" for name, url in links.items())
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text}})
    return blocks


@_never_raises
def _send_page(context: Context, what: str, error: str) -> None:
    """Trigger PagerDuty: one open incident a DAG, however many of its tasks and runs fail meanwhile."""
    connection = settings().notifications.pagerduty_connection
    summary, run_id = f"{what} failed", _run_id(context)
    if connection is None:
        log.warning("Nobody paged: %s pages nobody. Message: %s", environment_name(), summary)
        return
    try:
        from airflow.providers.pagerduty.hooks.pagerduty_events import PagerdutyEventsHook

        PagerdutyEventsHook(pagerduty_events_conn_id=connection).send_event(
            summary=summary,
            severity="critical",
            source="airflow",
            dedup_key=context["dag"].dag_id,
            custom_details={"run_id": run_id, "error": error[:PAGE_ERROR_LENGTH]},
        )
    except AirflowNotFoundException:
        log.warning("Nobody paged: connection %r does not exist. Message: %s", connection, summary)


def _task_name(context: Context) -> str:
    return f"{context['dag'].dag_id}.{context['ti'].task_id}"


def _run_id(context: Context) -> str:
    """In a worker the run is an object, in the DAG processor sometimes its id alone."""
    return str(context.get("run_id") or context["dag_run"].run_id)


def _error(context: Context) -> str:
    """What ended the task, with the secrets that Airflow knows of masked: a message is not masked later."""
    return str(redact(str(context.get("exception") or "no exception was recorded")))
