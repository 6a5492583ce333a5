"""Make Airflow's users those of the JSON on standard input, {name: {role, email}}, with passwords from files.

The migration Job runs this; the argument is the folder with a file for each user that holds the password. What is as
wanted already is not written, because a new password ends a user's sessions. A user that this script has made and that
is not named any more can no longer log in. Users of an identity provider, and those that somebody made on the page, are
left alone.
"""

import json
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.providers.fab.auth_manager.security_manager import override
from airflow.utils.providers_configuration_loader import providers_configuration_loaded
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.security import check_password_hash

MARK = "platform"
"""Last name of the users that are made here; the first name is the user's own name."""


def password(folder: Path, name: str) -> str:
    """A user's password.

    Raises:
        SystemExit: There is none.
    """
    file = folder / name
    text = file.read_text().rstrip("\n") if file.is_file() else ""
    if not text:
        raise SystemExit(
            f"problem: platform.users names {name}, for whom the Secret of global.secrets.users has no password: "
            f"add the key {name} to it"
        )
    return text


def role_of(security: Any, name: str, role: str) -> Any:
    """A role by its name.

    Raises:
        SystemExit: There is no such role.
    """
    found = security.find_role(role)
    if found is None:
        known = ", ".join(sorted(each.name for each in security.get_all_roles()))
        raise SystemExit(f"problem: platform.users.{name}.role is {role!r}, which is not a role: use one of {known}")
    return found


def reason(error: BaseException | None) -> str:
    """What kind of error it is, and which constraint of the database it is about, without any value of a row."""
    original = getattr(error, "orig", None) or error
    kind = "the security manager refuses it" if original is None else type(original).__name__
    constraint = getattr(getattr(original, "diag", None), "constraint_name", None)
    return f"{kind} ({constraint})" if constraint else kind


def write(name: str, change: Callable[[], object]) -> None:
    """Let the security manager write a user; it raises an error, or logs one and answers with a false value.

    The text of such an error has the values of the row, among them the hash of the password. So the security manager
    logs nothing in the meantime, and no error is raised further.

    Raises:
        SystemExit: The user cannot be written.
    """
    errors: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        errors.extend(each for each in record.args or () if isinstance(each, BaseException))
        return False

    override.log.addFilter(keep)
    try:
        done = change()
    except (override.FabException, SQLAlchemyError) as error:
        done = None
        errors.append(error)
    finally:
        override.log.removeFilter(keep)
    if not done:
        raise SystemExit(
            f"problem: user {name} cannot be written: {reason(errors[0] if errors else None)}; see whether another "
            "user has this name or e-mail address, and deploy again if two deployments ran at once"
        ) from None


def refuse_equal(wanted: dict[str, dict[str, str]]) -> None:
    """Give up if two users differ in capitals alone, in their names or addresses: for Airflow they are one.

    Raises:
        SystemExit: There are two such users.
    """
    names: dict[str, str] = {}
    emails: dict[str, str] = {}
    for name, spec in wanted.items():
        other = names.setdefault(name.lower(), name)
        if other != name:
            raise SystemExit(
                f"problem: platform.users names {other} and {name}, which is one user for Airflow: take one out"
            )
        email = spec["email"]
        other = emails.setdefault(email.lower(), name)
        if other != name:
            raise SystemExit(f"problem: platform.users.{name}.email is {email}, which {other} has, too: use another")


def refuse_taken(security: Any, name: str, email: str) -> None:
    """Give up if another user has this address, which the database allows once."""
    other = security.find_user(email=email)
    if other and other.username.lower() != name.lower():
        raise SystemExit(
            f"problem: platform.users.{name}.email is {email}, which user {other.username} has: use another"
        )


def make(security: Any, name: str, email: str, role: Any, secret: str) -> str:
    """Add a user, or change what differs from the wanted one; what was done, empty for nothing."""
    user = security.find_user(username=name)
    if user is None:
        write(name, partial(security.add_user, name, name, MARK, email, role, secret))
        return "added"
    changed = []
    if not check_password_hash(user.password or "", secret):
        write(name, partial(security.reset_password, user.id, secret))
        changed.append("password")
    wanted = {
        "roles": [role],
        # A group may bring roles, too.
        "groups": [],
        "email": email,
        "active": True,
        "first_name": name,
        "last_name": MARK,
    }
    different = {key: value for key, value in wanted.items() if getattr(user, key) != value}
    if different:
        for key, value in different.items():
            setattr(user, key, value)
        write(name, partial(security.update_user, user))
    return ", ".join([*changed, *different])


def is_ours(user: Any) -> bool:
    """Whether this script, or the former command in its place, has made a user.

    A user of an identity provider may have such names by chance, but has the hash of an empty password.
    """
    named = user.last_name == MARK and user.first_name == user.username
    return named and not check_password_hash(user.password or "", "")


def sync(wanted: dict[str, dict[str, str]], passwords: dict[str, str]) -> dict[str, str]:
    """Add, change and deactivate users.

    Returns:
        What was done to whom.
    """
    done = {}
    with get_application_builder() as builder:
        security = builder.sm
        # All of them first, so that nothing is written if one is wrong.
        roles = {name: role_of(security, name, spec["role"]) for name, spec in wanted.items()}
        for name, spec in wanted.items():
            refuse_taken(security, name, spec["email"])
        for name, spec in wanted.items():
            done[name] = make(security, name, spec["email"], roles[name], passwords[name])
        # Airflow does not tell small letters from capitals in these names.
        named = {name.lower() for name in wanted}
        for user in security.get_all_users():
            if user.active and user.username.lower() not in named and is_ours(user):
                user.active = False
                write(user.username, partial(security.update_user, user))
                done[user.username] = "deactivated: platform.users does not have it"
    return {name: what for name, what in done.items() if what}


@providers_configuration_loaded
def main() -> None:
    """Read what is wanted, and do it."""
    wanted = json.load(sys.stdin)
    manager = conf.get("core", "auth_manager")
    if not manager.endswith(".FabAuthManager"):
        if wanted:
            raise SystemExit(f"problem: platform.users names users, and {manager} has no list of them: leave it empty")
        return
    refuse_equal(wanted)
    folder = Path(sys.argv[1])
    done = sync(wanted, {name: password(folder, name) for name in wanted})
    print(f"users: {', '.join(sorted(wanted))}")
    for name, what in done.items():
        print(f"user {name}: {what}")


if __name__ == "__main__":
    main()
