"""Rotation of the metadata database's login: two roles take turns, and the old one works until no session uses it."""

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
"""The new login's URL without PgBouncer, until that login is the one in use."""
USERS = "users.txt"
JOB = "airflow-check-database-login"
PSQL = "PGPASSWORD=$POSTGRES_PASSWORD exec psql -qAt -U postgres -d airflow -v ON_ERROR_STOP=1"
"""Runs inside the development database's container, which has the administrator's password in its environment."""
IDLE_SECONDS = 900
"""How long to wait for the last session of the old login; a backup or a cleanup may keep one for long."""


def user(url: str) -> str:
    """The login name in a database URL."""
    login = unquote(urlsplit(url).username or "")
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", login):
        raise fail(
            f"the login {login!r} in Secret `metadata` is not a plain name.",
            "Use a login of lower case letters, digits and _.",
        )
    return login


def owner(login: str) -> str:
    """The role that owns the tables; both logins are members of it and act as it."""
    return re.sub(r"_[ab]$", "", login)


def other(login: str) -> str:
    """The login whose turn is next."""
    return f"{owner(login)}_{'b' if login.endswith('_a') else 'a'}"


def with_login(url: str, login: str, password: str) -> str:
    """A database URL with another login, whose password must need no quoting."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{login}:{password}@{parts.netloc.rpartition('@')[2]}"))


def add(present: Content) -> Content:
    """Add the URL of the next login with a new password; nothing uses it yet."""
    if NEXT in present:
        return present
    direct = present["connection-direct"]
    return present | {NEXT: with_login(direct, other(user(direct)), secrets.token_hex(16))}


def switch(present: Content) -> Content:
    """Change every URL from the old login to the next one."""
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
    """The hash that PostgreSQL stores for a password (RFC 5803), to keep the password out of statements and logs."""
    salt, rounds = secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return f"SCRAM-SHA-256${rounds}:{salt64}${stored64}:{server64}"


def make_role(url: str) -> str:
    """SQL that creates the login of a URL, or changes its password; it can be run again."""
    login = user(url)
    return f"""\
SELECT 'CREATE ROLE "{login}"' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{login}') \\gexec
GRANT "{owner(login)}" TO "{login}";
ALTER ROLE "{login}" SET role TO '{owner(login)}';
ALTER ROLE "{login}" LOGIN PASSWORD '{scram(urlsplit(url).password or "")}';
"""  # noqa: S608  # `user` lets plain names through only


def old_logins(login: str) -> str:
    """SQL condition on pg_roles for the owner and all of its logins except this one."""
    names = ", ".join(f"'{name}'" for name in {owner(login), f"{owner(login)}_a", f"{owner(login)}_b"} - {login})
    return f"rolname IN ({names}) AND rolcanlogin"


def retire(login: str) -> str:
    """SQL that locks all other logins of the same owner; it can be run again. The owner keeps its tables."""
    alter = "SELECT format('ALTER ROLE %I NOLOGIN PASSWORD NULL', rolname) FROM pg_roles"
    return f"{alter} WHERE {old_logins(login)} \\gexec\n"


def sessions(login: str) -> str:
    """SQL that counts the sessions of the other logins."""
    return f"SELECT count(*) FROM pg_stat_activity JOIN pg_roles ON usename = rolname WHERE {old_logins(login)};"  # noqa: S608


def pooled(users: str, url: str) -> str:
    """PgBouncer's list of users, with a login added."""
    line = f'"{user(url)}" "{urlsplit(url).password}"'
    kept = [each for each in users.splitlines() if not each.startswith(f'"{user(url)}" ')]
    return "\n".join([*kept, line]) + "\n"


def unpooled(users: str, login: str) -> str:
    """PgBouncer's list of users, without the other logins of the same owner."""
    gone = {owner(login), f"{owner(login)}_a", f"{owner(login)}_b"} - {login}
    return "".join(f"{line}\n" for line in users.splitlines() if line.partition(" ")[0].strip('"') not in gone)


@dataclass
class Rotation:
    """The steps that need access to the environment.

    Attributes:
        context: The environment.
    """

    context: RotationContext

    @property
    def own_database(self) -> bool:
        """Whether the database is the development one, which this command administers."""
        return bool(self.context.values["platform"]["database"]["enabled"])

    def sql(self, text: str) -> str:
        """Run SQL in the development database as its administrator; the output."""
        pod = ("exec", "--stdin", "statefulset/airflow-database", "--container", "postgres", "--")
        return self.context.cluster.kubectl(*pod, "bash", "-c", PSQL, stdin=text).strip()

    def write_for_administrator(self, name: str, text: str) -> None:
        """Write SQL to a file that only this user can read, and say what to do with it."""
        file = self.context.write_private(f"{name}.sql", text)
        out.print(f"run {file.relative_to(ROOT)} with psql as an administrator of the database")

    def current(self) -> str:
        """The login in use."""
        return user(self.context.secret(PURPOSE)["connection-direct"])

    def make(self) -> None:
        """Create the next login, or have an administrator create it; the following step waits for it."""
        text = make_role(self.context.secret(PURPOSE)[NEXT])
        if self.own_database:
            self.sql(text)
        else:
            self.write_for_administrator("make-role", text)

    def try_login(self) -> None:
        """Run a Job that logs in with the next login, from the same network as the components."""
        out.print("\n".join(self.context.run_job(JOB, "logging in")))

    def pool(self) -> None:
        """Add the next login to PgBouncer, beside the present one."""
        url = self.context.secret(PURPOSE)[NEXT]
        self.context.change(POOLER, lambda present: present | {USERS: pooled(present[USERS], url)})
        self.context.restart(POOLER)

    def unpool(self) -> None:
        """Remove the old login from PgBouncer."""
        self.context.change(POOLER, lambda present: present | {USERS: unpooled(present[USERS], self.current())})
        self.context.restart(POOLER)

    def retire_old(self) -> None:
        """Lock the old login as soon as no session uses it."""
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
        Step("add", "choose the next login and its password", lambda: context.change(PURPOSE, add)),
        Step("make", "create it in the database", rotation.make),
        Step("try", "log in with it", rotation.try_login),
        *([Step("pool", "add it to PgBouncer, beside the old one", rotation.pool)] if pooler else []),
        Step("switch", "put it into the Secret as the login to use", lambda: context.change(PURPOSE, switch)),
        Step("switched", "restart every component with it", lambda: context.restart(PURPOSE)),
        Step("retire", "lock the old login once no session uses it", rotation.retire_old),
        *([Step("unpool", "remove the old login from PgBouncer", rotation.unpool)] if pooler else []),
    ]
