"""Encrypt what the metadata database keeps encrypted with the first Fernet key, and read all of it with that key alone.

May run again. Runs as a Job made of CronJob airflow-rotate-fernet-key, by `airflow-ops rotate fernet`.
"""

import subprocess
import sys
from collections.abc import Iterator

from cryptography.fernet import Fernet, InvalidToken


def encrypted() -> Iterator[tuple[str, str]]:
    """What is encrypted, and a name for it: what Airflow's own command `rotate-fernet-key` goes over."""
    from airflow.models.connection import Connection
    from airflow.models.connection_test import ConnectionTestRequest
    from airflow.models.trigger import Trigger
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        for model in (Connection, ConnectionTestRequest):
            for row in session.scalars(select(model)):
                if row.is_encrypted and row._password:
                    yield f"password of {model.__tablename__} {row.id}", row._password
                if row.is_extra_encrypted and row._extra:
                    yield f"extra of {model.__tablename__} {row.id}", row._extra
        for variable in session.scalars(select(Variable)):
            if variable.is_encrypted and variable._val:
                yield f"variable {variable.key}", variable._val
        for trigger in session.scalars(select(Trigger)):
            yield f"trigger {trigger.id}", trigger.encrypted_kwargs


def unreadable(key: str, values: Iterator[tuple[str, str]]) -> tuple[int, list[str]]:
    """How many values there are, and the names of those that a key alone does not decrypt."""
    fernet, count, names = Fernet(key.encode()), 0, []
    for name, value in values:
        count += 1
        try:
            fernet.decrypt(value.encode())
        except InvalidToken:
            names.append(name)
    return count, names


def main() -> None:
    """Rotate, check, and tell how much there is; the exit code is 1 where a value stays unreadable."""
    from airflow.configuration import conf

    subprocess.run(["airflow", "rotate-fernet-key"], check=True)
    count, names = unreadable(conf.get("core", "fernet_key").split(",")[0], encrypted())
    if names:
        sys.exit(f"{len(names)} of {count} values cannot be read with the new key alone: {', '.join(names)}")
    print(f"{count} encrypted values, each read with the new key alone")


if __name__ == "__main__":
    main()
