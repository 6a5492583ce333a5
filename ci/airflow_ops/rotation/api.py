"""Rotation of the API server's own key. It signs sessions of the web page and requests for logs, not tasks' tokens."""

import secrets

from airflow_ops.rotation.context import Content, RotationContext
from airflow_ops.rotation.sequence import Step

PURPOSE = "api"
KEY = "api-secret-key"


def new_key(present: Content) -> Content:
    """Replace the key: Airflow accepts only one at a time."""
    return present | {KEY: secrets.token_urlsafe(32)}


def steps(context: RotationContext) -> list[Step]:
    """The steps. Users of the web page have to log in again, and a request for a log may fail once meanwhile."""
    return [
        Step("replace", "replace the key by a new one", lambda: context.change(PURPOSE, new_key)),
        Step(
            "restart", "restart every component with it; users have to log in again", lambda: context.restart(PURPOSE)
        ),
    ]
