"""Rights of the metadata database's roles beside the owner: what each of them needs, and nothing else.

    database_rights.py make     make the logins, where CONNECTION_ADMIN is given
    database_rights.py grant    take all rights from each role and give it those below, in one transaction
    database_rights.py check    log in with each login, and look whether it acts as its role

Several commands run one after the other, and each may be repeated. The names of the roles follow from the owner's,
because one server may hold the databases of several environments: beside `airflow` they are `airflow_reader` and so on.
A login may also be a member that acts as its role, as a rotation makes it.

Environment: CONNECTION (as the owner); for `make` and `check` LOGINS (JSON by kind of role: the `variable` with the
login's address, and the `secret` that it comes from); CONNECTION_ADMIN (a role that may make roles; unset where an
administrator makes the logins). What is wrong is a line `problem: ...` and exit code 1.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2.extensions  # type: ignore[import-untyped]
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

DIALECT: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
"""How PostgreSQL quotes names and texts."""
READER = "reader"
"""Reads everything: for backups and for the exporter of metrics."""
KINDS = (READER,)
"""What comes after the owner's name and `_` in the name of a role."""
TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = ANY (:kinds)
  AND pg_has_role(relowner, 'USAGE') ORDER BY relname
"""
POWERS = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")


class ProblemError(Exception):
    """Why the rights cannot be given, in words for the user."""


def quoted(name: str) -> str:
    """The name of a database, role or table as SQL takes it."""
    return str(DIALECT.identifier_preparer.quote(name))


def literal(text: str) -> str:
    """A text as SQL takes it."""
    return str(sa.literal(text).compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))


@contextmanager
def connected(url: sa.URL) -> Iterator[sa.Connection]:
    """A connection for a `with` block, in one transaction."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 20})
    with engine.begin() as connection:
        yield connection


def owner_url() -> sa.URL:
    """Address of the metadata database for its owner."""
    return sa.make_url(os.environ["CONNECTION"])


def logins() -> dict[str, tuple[sa.URL, str]]:
    """Address of each login and the Secret that it comes from, by kind of role."""
    wanted = json.loads(os.environ["LOGINS"])
    return {kind: (sa.make_url(os.environ[each["variable"]]), each["secret"]) for kind, each in wanted.items()}


def acting(database: sa.Connection) -> str:
    """The role that a connection acts as."""
    return str(database.scalar(sa.text("SELECT current_user")))


def role_of(owner: str, kind: str) -> str:
    """The name of a role."""
    return f"{owner}_{kind}"


def exists(database: sa.Connection, role: str) -> bool:
    """Whether the server has a role."""
    found = database.scalar(sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :role"), {"role": role})
    return bool(found)


def make() -> None:
    """Make the logins, where an administrator's address is given; set their passwords, which the Secrets hold."""
    admin = os.environ.get("CONNECTION_ADMIN")
    if not admin:
        return
    with connected(owner_url()) as database:
        owner = acting(database)
    with connected(sa.make_url(admin)) as server:
        for kind, (url, _) in logins().items():
            make_login(server, role_of(owner, kind), url)


def make_login(server: sa.Connection, role: str, url: sa.URL) -> None:
    """Make a role, and the login that acts as it, where they are missing."""
    login, password = str(url.username), str(url.password)
    for name in (role, login):
        if not exists(server, name):
            server.execute(sa.text(f"CREATE ROLE {quoted(name)}"))
            print(f"made the role {name}")
    if login != role:
        server.execute(sa.text(f"GRANT {quoted(role)} TO {quoted(login)}"))
        server.execute(sa.text(f"ALTER ROLE {quoted(login)} SET role TO {quoted(role)}"))
    # The hash and not the password, which would be in the server's log.
    raw = server.connection.driver_connection
    scram = psycopg2.extensions.encrypt_password(password, login, raw, "scram-sha-256")
    server.exec_driver_sql(f"ALTER ROLE {quoted(login)} LOGIN PASSWORD {literal(scram)}")


def grant() -> None:
    """Give each role its rights in the database of CONNECTION.

    Raises:
        ProblemError: A role is missing, or may do more than anybody can take from it here.
    """
    with connected(owner_url()) as database:
        grant_in(database)


def grant_in(database: sa.Connection) -> None:
    """Give each role its rights in the database of a connection of the owner, in the connection's transaction.

    Raises:
        ProblemError: See `grant`.
    """
    owner = acting(database)
    for kind in KINDS:
        check_role(database, owner, role_of(owner, kind))
    close_to_everybody(database, [role_of(owner, kind) for kind in KINDS])
    for kind in KINDS:
        enter(database, role_of(owner, kind))
    grant_reader(database, owner, role_of(owner, READER))


def check_role(database: sa.Connection, owner: str, role: str) -> None:
    """Check that a role is there and has no rights of its own beside those that it gets here.

    Raises:
        ProblemError: It is missing, or it is the owner by another name, or may do what nobody here can refuse it.
    """
    if not exists(database, role):
        raise ProblemError(
            f"the database's server has no role {role}: an administrator has to run "
            f"CREATE ROLE {quoted(role)} LOGIN PASSWORD '...' once, with the password of the login's Secret "
            "(docs/secrets.md)"
        )
    query = sa.text("SELECT pg_has_role(:role, :owner, 'MEMBER')")
    if database.scalar(query, {"role": role, "owner": owner}):
        raise ProblemError(
            f"{role} is a member of {owner} or a superuser, so it may do everything: an administrator has to run "
            f"REVOKE {quoted(owner)} FROM {quoted(role)}, or ALTER ROLE {quoted(role)} NOSUPERUSER"
        )
    entry = database.execute(sa.text("SELECT * FROM pg_roles WHERE rolname = :role"), {"role": role}).mappings().one()
    if powers := [name for name in POWERS if entry[name]]:
        raise ProblemError(
            f"{role} has {', '.join(powers)}: an administrator has to run ALTER ROLE {quoted(role)} "
            "NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
        )


def close_to_everybody(database: sa.Connection, roles: list[str]) -> None:
    """Take from everybody the right to make tables and functions, which the owner would then use by mistake.

    Raises:
        ProblemError: The schema belongs to somebody else, as before PostgreSQL 15.
    """
    name = quoted(str(database.scalar(sa.text("SELECT current_database()"))))
    schema = quoted(str(database.scalar(sa.text("SELECT current_schema()"))))
    database.execute(sa.text(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"))
    with suppress(sa.exc.DBAPIError), database.begin_nested():
        database.execute(sa.text(f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"))
    may = sa.text("SELECT has_schema_privilege(:role, CAST(current_schema() AS text), 'CREATE')")
    if makers := [role for role in roles if database.scalar(may, {"role": role})]:
        raise ProblemError(
            f"{', '.join(makers)} may make tables and functions in schema {schema}: an administrator has to run "
            f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC in database {name}"
        )


def names(database: sa.Connection, *kinds: str) -> list[str]:
    """Tables and views, or sequences, of the owner."""
    return [str(name) for name in database.scalars(sa.text(TABLES), {"kinds": list(kinds)})]


def every(database: sa.Connection) -> list[tuple[str, list[str]]]:
    """All of the owner's tables and sequences, as GRANT takes them; what there is none of is left out."""
    found = [("TABLE", names(database, "r", "p", "v", "m")), ("SEQUENCE", names(database, "S"))]
    return [(kind, those) for kind, those in found if those]


def enter(database: sa.Connection, role: str) -> None:
    """Let a role connect, and take from it whatever it may do with tables and sequences."""
    schema = quoted(str(database.scalar(sa.text("SELECT current_schema()"))))
    name = quoted(str(database.scalar(sa.text("SELECT current_database()"))))
    for kind, those in every(database):
        database.execute(sa.text(f"REVOKE ALL ON {kind} {', '.join(map(quoted, those))} FROM {quoted(role)}"))
    database.execute(sa.text(f"GRANT CONNECT ON DATABASE {name} TO {quoted(role)}"))
    database.execute(sa.text(f"GRANT USAGE ON SCHEMA {schema} TO {quoted(role)}"))


def grant_reader(database: sa.Connection, owner: str, role: str) -> None:
    """Let the reader read every table and sequence, and those that the owner makes later."""
    for kind, those in every(database):
        database.execute(sa.text(f"GRANT SELECT ON {kind} {', '.join(map(quoted, those))} TO {quoted(role)}"))
    for kind in ("TABLES", "SEQUENCES"):
        defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(owner)} IN SCHEMA"
        schema = quoted(str(database.scalar(sa.text("SELECT current_schema()"))))
        database.execute(sa.text(f"{defaults} {schema} GRANT SELECT ON {kind} TO {quoted(role)}"))
    print(f"{role} may read everything")


def check() -> None:
    """Log in with each login.

    Raises:
        ProblemError: One cannot, or acts as another role than its own, or could act as the owner.
    """
    with connected(owner_url()) as database:
        owner = acting(database)
    for kind, (url, secret) in logins().items():
        role = role_of(owner, kind)
        try:
            with connected(url) as database:
                found = acting(database)
                query = sa.text("SELECT pg_has_role(session_user, :owner, 'MEMBER')")
                is_owner = database.scalar(query, {"owner": owner})
        except sa.exc.SQLAlchemyError as error:
            raise ProblemError(f"the login {url.username} of Secret {secret} does not work: {cause(error)}") from error
        if found != role or is_owner:
            acts = f"may act as {owner}" if is_owner else f"acts as {found}"
            raise ProblemError(
                f"the login {url.username} of Secret {secret} {acts}: give it a login that is {role}, or that acts "
                "as it and is a member of no other role"
            )
        print(f"{url.username} logs in and acts as {role}")


def cause(error: BaseException) -> str:
    """What the database said, in a line: the error itself shows the statement and a link."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


COMMANDS = {"make": make, "grant": grant, "check": check}


def main(commands: list[str]) -> None:
    """Run commands; see the top of this file.

    Raises:
        ProblemError: One is unknown, or cannot be done.
    """
    if unknown := [command for command in commands if command not in COMMANDS]:
        raise ProblemError(f"unknown command {unknown[0]}: there are {', '.join(COMMANDS)}")
    for command in commands:
        COMMANDS[command]()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ProblemError, sa.exc.SQLAlchemyError) as error:
        print(f"problem: {cause(error)}")
        sys.exit(1)
