"""Rotation of the Fernet key: every value is encrypted with the new key before the old one is removed."""

import base64
import secrets

from airflow_ops.console import out
from airflow_ops.rotation.context import Content, RotationContext
from airflow_ops.rotation.sequence import Step

PURPOSE = "fernet"
KEY = "fernet-key"
"""The keys for Airflow, separated by commas: the first one encrypts, all of them decrypt."""
NEXT = "next-fernet-key"
"""The new key, kept here while the old one is in use too. Airflow does not read it."""
JOB = "airflow-rotate-fernet-key"


def add(present: Content) -> Content:
    """Append a new key: it decrypts, but does not encrypt yet."""
    if NEXT in present:
        return present
    new = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return present | {KEY: f"{present[KEY]},{new}", NEXT: new}


def promote(present: Content) -> Content:
    """Move the new key to the front, so that it encrypts."""
    rest = [key for key in present[KEY].split(",") if key != present[NEXT]]
    return present | {KEY: ",".join([present[NEXT], *rest])}


def drop(present: Content) -> Content:
    """Remove all keys but the new one."""
    if NEXT not in present:
        return present
    return {key: text for key, text in present.items() if key != NEXT} | {KEY: present[NEXT]}


def steps(context: RotationContext) -> list[Step]:
    """The steps. At every moment, every pod can decrypt what any other pod encrypts."""

    def reencrypt() -> None:
        out.print(context.run_job(JOB, "encrypting with the new key")[-1])

    return [
        Step("add", "add the new key after the old one", lambda: context.change(PURPOSE, add)),
        Step("added", "restart every component, to decrypt with both", lambda: context.restart(PURPOSE)),
        Step("promote", "put the new key before the old one", lambda: context.change(PURPOSE, promote)),
        Step("promoted", "restart every component, to encrypt with the new key", lambda: context.restart(PURPOSE)),
        Step("reencrypt", "encrypt every value with the new key, and decrypt it with that key alone", reencrypt),
        Step("drop", "remove the old key", lambda: context.change(PURPOSE, drop)),
        Step("dropped", "restart every component without the old key", lambda: context.restart(PURPOSE)),
    ]
