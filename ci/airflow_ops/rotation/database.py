"""Rotation of the metadata database's login: two roles take turns; the old one works until nobody uses it."""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from airflow_ops.console import fail, out
from airflow_ops.paths import ROOT
from airflow_ops.rotation.context import Content, RotationContext
from airflow_ops.rotation.sequence import Step
from airflow_ops.waiting import wait_until

PURPOSE = "metadata"
POOLER = "pgbouncer"
NEXT = "next-connection-direct"
"""The new login's URL past any PgBouncer, until it is the one in use."""
USERS = "users.txt"
JOB = "airflow-check-database-login"
PSQL = "PGPASSWORD=$POSTGRES_PASSWORD exec psql -qAt -U postgres -d airflow -v ON_ERROR_STOP=1"
"""Inside the development database's container, where its administrator's password is in the environment."""
IDLE_SECONDS = 900
"""For the last session of the old login to end: a backup or a cleanup may hold one for long."""


def user(url: str) -> str:
    """The login name in a database URL."""
    login = unquote(urlsplit(url).username or "")
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", login):
        raise fail(f"the login {login!r} in Secret `metadata` is no plain name.", "Lower case letters, digits and _.")
    return login


def owner(login: str) -> str:
    """The role that owns the tables: both logins are members of it and act as it."""
    return re.sub(r"_[ab]$", "", login)


def other(login: str) -> str:
    """The login whose turn is next."""
    return f"{owner(login)}_{'b' if login.endswith('_a') else 'a'}"


def with_login(url: str, login: str, password: str) -> str:
    """A database URL with another login; the password needs no quoting."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{login}:{password}@{parts.netloc.rpartition('@')[2]}"))


def add(present: Content) -> Content:
    """The next login, made up and not in use."""
    if NEXT in present:
        return present
    direct = present["connection-direct"]
    return present | {NEXT: with_login(direct, other(user(direct)), secrets.token_hex(16))}


def switch(present: Content) -> Content:
    """Every URL of the old login with the next one."""
    if NEXT not in present:
        return present
    parts, old = urlsplit(present[NEXT]), user(present["connection-direct"])
    login, password = parts.username or "", parts.password or ""
    rest = {key: text for key, text in present.items() if key != NEXT}
    return {
        key: with_login(text, login, password) if "://" in text and user(text) == old else text
        for key, text in rest.items()
    }


def scram(password: str) -> str:
    """What PostgreSQL stores of a password (RFC 5803), so that no statement and no log of the server holds it."""
    salt, rounds = secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return f"SCRAM-SHA-256${rounds}:{salt64}${stored64}:{server64}"


def make_role(url: str) -> str:
    """SQL that makes the login of a URL, or gives it another password; may run again."""
    login = user(url)
    return f"""\
SELECT 'CREATE ROLE "{login}"' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{login}') \\gexec
GRANT "{owner(login)}" TO "{login}";
ALTER ROLE "{login}" SET role TO '{owner(login)}';
ALTER ROLE "{login}" LOGIN PASSWORD '{scram(urlsplit(url).password or "")}';
"""  # noqa: S608  # `user` lets plain names through only


def old_logins(login: str) -> str:
    """SQL condition on pg_roles: the owner and every other login of it."""
    names = ", ".join(f"'{name}'" for name in {owner(login), f"{owner(login)}_a", f"{owner(login)}_b"} - {login})
    return f"rolname IN ({names}) AND rolcanlogin"


def retire(login: str) -> str:
    """SQL after which no login but one can enter; may run again. The owner keeps its tables."""
    alter = "SELECT format('ALTER ROLE %I NOLOGIN PASSWORD NULL', rolname) FROM pg_roles"
    return f"{alter} WHERE {old_logins(login)} \\gexec\n"


def sessions(login: str) -> str:
    """SQL that counts the sessions of the other logins."""
    return f"SELECT count(*) FROM pg_stat_activity JOIN pg_roles ON usename = rolname WHERE {old_logins(login)};"  # noqa: S608


def pooled(users: str, url: str) -> str:
    """PgBouncer's list of users with a login added."""
    line = f'"{user(url)}" "{urlsplit(url).password}"'
    kept = [each for each in users.splitlines() if not each.startswith(f'"{user(url)}" ')]
    return "\n".join([*kept, line]) + "\n"


def unpooled(users: str, login: str) -> str:
    """PgBouncer's list of users without the other logins of an owner."""
    gone = {owner(login), f"{owner(login)}_a", f"{owner(login)}_b"} - {login}
    return "".join(f"{line}\n" for line in users.splitlines() if line.partition(" ")[0].strip('"') not in gone)


@dataclass
class Rotation:
    """The steps that need the environment.

    Attributes:
        context: The environment.
    """

    context: RotationContext

    @property
    def own_database(self) -> bool:
        """Whether the database is the development one, which this command may change."""
        return bool(self.context.values["platform"]["database"]["enabled"])

    def sql(self, text: str) -> str:
        """Run SQL in the development database as its administrator; what it answers."""
        pod = ("exec", "--stdin", "statefulset/airflow-database", "--container", "postgres", "--")
        return self.context.cluster.kubectl(*pod, "bash", "-c", PSQL, stdin=text).strip()

    def write_for_administrator(self, name: str, text: str) -> None:
        """Write SQL to a file that only this user can read, and say what to do with it."""
        file = self.context.private_file(f"{name}.sql")
        file.write_text(text)
        out.print(f"run {file.relative_to(ROOT)} with psql as an administrator of the database", highlight=False)

    def current(self) -> str:
        """The login in use."""
        return user(self.context.secret(PURPOSE)["connection-direct"])

    def make(self) -> None:
        """The next login is made, or gets its password; what uses it waits for it."""
        text = make_role(self.context.secret(PURPOSE)[NEXT])
        if self.own_database:
            self.sql(text)
        else:
            self.write_for_administrator("make-role", text)

    def try_login(self) -> None:
        """A Job logs in with the next login, from where the components do."""
        out.print("\n".join(self.context.run_job(JOB, "logging in")), highlight=False)

    def pool(self) -> None:
        """PgBouncer gets the next login beside the present one."""
        url = self.context.secret(PURPOSE)[NEXT]
        self.context.change(POOLER, lambda present: present | {USERS: pooled(present[USERS], url)})
        self.context.restart(POOLER)

    def unpool(self) -> None:
        """PgBouncer keeps the login in use only."""
        self.context.change(POOLER, lambda present: present | {USERS: unpooled(present[USERS], self.current())})
        self.context.restart(POOLER)

    def end(self) -> None:
        """The old login cannot enter any more, once nobody is in with it."""
        login = self.current()
        if not self.own_database:
            text = f"{sessions(login)} -- wait until it is 0\n{retire(login)}"
            self.write_for_administrator("retire-role", text)
            return
        if not wait_until(lambda: self.sql(sessions(login)) == "0", IDLE_SECONDS, 2):
            raise fail(
                f"{self.sql(sessions(login))} sessions of the old database login are left.",
                "See pg_stat_activity for whose they are; the old login still works. Then run this again.",
            )
        self.sql(retire(login))


def steps(context: RotationContext) -> list[Step]:
    """The steps. Both logins work until no session of the old one is left."""
    rotation = Rotation(context)
    pooler = context.values["platform"]["pgbouncer"]["enabled"]
    return [
        Step("add", "the next login is made up", lambda: context.change(PURPOSE, add)),
        Step("make", "the database knows it", rotation.make),
        Step("enter", "it can log in", rotation.try_login),
        *([Step("pool", "PgBouncer knows it beside the old one", rotation.pool)] if pooler else []),
        Step("switch", "it is to be used", lambda: context.change(PURPOSE, switch)),
        Step("switched", "every component uses it", lambda: context.restart(PURPOSE)),
        Step("end", "the old login can enter no more", rotation.end),
        *([Step("unpool", "PgBouncer does not know the old one", rotation.unpool)] if pooler else []),
    ]
