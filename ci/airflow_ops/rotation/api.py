"""Rotation of the API server's own key. It signs sessions of the web page and requests for logs, not tasks' tokens."""

import secrets

from airflow_ops.rotation.context import Content, RotationContext
from airflow_ops.rotation.sequence import Step

PURPOSE = "api"
KEY = "api-secret-key"
NEXT = "next-api-secret-key"
"""The new key until it is the one in use; no pod reads it."""


def add(present: Content) -> Content:
    """Add a new key, which nothing uses yet: drawn once, however often the step is run."""
    return present if NEXT in present else present | {NEXT: secrets.token_urlsafe(32)}


def replace(present: Content) -> Content:
    """Replace the key by the new one: Airflow accepts only one at a time."""
    if NEXT not in present:
        return present
    return {key: text for key, text in present.items() if key != NEXT} | {KEY: present[NEXT]}


def steps(context: RotationContext) -> list[Step]:
    """The steps. Users of the web page have to log in again, and a request for a log may fail once meanwhile."""
    return [
        Step("add", "draw the new key and put it beside the old one", lambda: context.change(PURPOSE, add)),
        Step("replace", "replace the old key by it", lambda: context.change(PURPOSE, replace)),
        Step(
            "restart", "restart every component with it; users have to log in again", lambda: context.restart(PURPOSE)
        ),
    ]
