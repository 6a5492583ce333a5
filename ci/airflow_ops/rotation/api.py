"""Rotation of the API server's own key: it signs page sessions and requests for logs, and no token of a task."""

import secrets

from airflow_ops.rotation.context import Content, RotationContext
from airflow_ops.rotation.sequence import Step

PURPOSE = "api"
KEY = "api-secret-key"


def draw(present: Content) -> Content:
    """Another key; Airflow knows one at a time."""
    return present | {KEY: secrets.token_urlsafe(32)}


def steps(context: RotationContext) -> list[Step]:
    """The steps. Page logins end; a log that is asked for meanwhile may have to be asked for again."""
    return [
        Step("draw", "a new key is drawn", lambda: context.change(PURPOSE, draw)),
        Step("restart", "every component reads it; page logins end", lambda: context.restart(PURPOSE)),
    ]
