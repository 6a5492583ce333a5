"""Encrypt all encrypted values of the metadata database with the first Fernet key, and read them with that key only.

May run again. Runs as a Job made of CronJob airflow-rotate-fernet-key, by `airflow-ops rotate fernet`. Not Airflow's
own command `rotate-fernet-key` (3.3.2): it ends with InvalidToken while a task is deferred, for the arguments of such a
task's trigger are stored as plain JSON (execution API, ti_patch_payload.trigger_kwargs).
"""

import sys
from collections.abc import Iterator
from typing import Any

from cryptography.fernet import Fernet, InvalidToken


def rows(session: Any) -> Iterator[Any]:
    """Every row that may hold something encrypted, of the models that Airflow's own command goes over."""
    from airflow.models.connection import Connection
    from airflow.models.connection_test import ConnectionTestRequest
    from airflow.models.trigger import Trigger
    from airflow.models.variable import Variable
    from sqlalchemy import select

    for model in (Connection, ConnectionTestRequest, Variable):
        yield from session.scalars(select(model))
    # Airflow itself distinguishes plain arguments from encrypted ones in this way.
    yield from (row for row in session.scalars(select(Trigger)) if not row.encrypted_kwargs.startswith("{"))


def name(row: Any) -> str:
    """The name of a row for an operator."""
    return f"{row.__tablename__} {getattr(row, 'conn_id', None) or getattr(row, 'key', None) or row.id}"


def tokens(row: Any) -> list[str]:
    """What is encrypted in a row."""
    if hasattr(row, "encrypted_kwargs"):
        return [row.encrypted_kwargs]
    if hasattr(row, "_val"):
        return [row._val] if row.is_encrypted and row._val else []
    found = ((row.is_encrypted, row._password), (row.is_extra_encrypted, row._extra))
    return [text for is_encrypted, text in found if is_encrypted and text]


def rotate(session: Any) -> list[str]:
    """Encrypt everything again; the names of the rows that none of the keys decrypts."""
    lost = []
    for row in rows(session):
        try:
            row.rotate_fernet_key()
        except InvalidToken:
            lost.append(name(row))
    return lost


def unreadable(session: Any, key: str) -> tuple[int, list[str]]:
    """How many values there are, and the names of the rows with one that a key alone does not decrypt."""
    fernet, count, names = Fernet(key.encode()), 0, []
    for row in rows(session):
        for token in tokens(row):
            count += 1
            try:
                fernet.decrypt(token.encode())
            except InvalidToken:
                names.append(name(row))
    return count, names


def main() -> None:
    """Rotate, check, and print the number of values; the exit code is 1 if one cannot be decrypted."""
    from airflow.configuration import conf
    from airflow.utils.session import create_session

    with create_session() as session:
        if lost := rotate(session):
            session.rollback()
            sys.exit(
                f"nothing was changed: no key of the Secret reads {', '.join(lost)}. Set these anew, or add their key."
            )
    with create_session() as session:
        count, names = unreadable(session, conf.get("core", "fernet_key").split(",")[0])
    if names:
        sys.exit(f"the new key alone does not read {', '.join(names)}. Run the same command again.")
    print(f"{count} encrypted values, each read with the new key alone")


if __name__ == "__main__":
    main()
