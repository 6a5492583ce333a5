"""Rotation of the Fernet key: what is encrypted with the old key is encrypted anew before that key goes."""

import base64
import secrets

from airflow_ops.console import out
from airflow_ops.rotation.context import Content, RotationContext
from airflow_ops.rotation.sequence import Step

PURPOSE = "fernet"
KEY = "fernet-key"
"""As Airflow reads it: keys after commas; the first encrypts, each decrypts."""
NEXT = "next-fernet-key"
"""The new key, for as long as the old one stands beside it. Airflow does not read it."""
JOB = "airflow-rotate-fernet-key"


def add(present: Content) -> Content:
    """The new key after the old one: decrypts, and does not encrypt yet."""
    if NEXT in present:
        return present
    new = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return present | {KEY: f"{present[KEY]},{new}", NEXT: new}


def put_first(present: Content) -> Content:
    """The new key first: encrypts."""
    rest = [key for key in present[KEY].split(",") if key != present[NEXT]]
    return present | {KEY: ",".join([present[NEXT], *rest])}


def drop(present: Content) -> Content:
    """The new key alone."""
    if NEXT not in present:
        return present
    return {key: text for key, text in present.items() if key != NEXT} | {KEY: present[NEXT]}


def steps(context: RotationContext) -> list[Step]:
    """The steps. Whatever a pod writes, every other can read at every moment of them."""

    def encrypt_anew() -> None:
        out.print(context.run_job(JOB, "encrypting with the new key")[-1], highlight=False)

    return [
        Step("add", "the new key behind the old one", lambda: context.change(PURPOSE, add)),
        Step("added", "every component can read with it", lambda: context.restart(PURPOSE)),
        Step("lead", "the new key before the old one", lambda: context.change(PURPOSE, put_first)),
        Step("led", "every component writes with it", lambda: context.restart(PURPOSE)),
        Step("encrypt", "everything is encrypted anew, and read with the new key alone", encrypt_anew),
        Step("drop", "the old key goes", lambda: context.change(PURPOSE, drop)),
        Step("dropped", "no component knows it", lambda: context.restart(PURPOSE)),
    ]
