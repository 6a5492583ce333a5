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
import re
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
DAG_CODE = "dag_code"
"""For DAG processor and triggerer, in which the code of DAGs runs."""
KINDS = (READER, DAG_CODE)
"""What comes after the owner's name and `_` in the name of a role."""
READ = "SELECT"
ADD = "SELECT, INSERT"
WRITE = "SELECT, INSERT, UPDATE"
ALL = "SELECT, INSERT, UPDATE, DELETE"
GRANTED = {
    # What is stored about DAGs. The DAG processor makes all of it anew from the files.
    "dag": WRITE,
    "dag_bundle": WRITE,
    "dag_code": WRITE,
    "dag_owner_attributes": ALL,
    "dag_schedule_asset_alias_reference": ALL,
    "dag_schedule_asset_name_reference": ALL,
    "dag_schedule_asset_reference": ALL,
    "dag_schedule_asset_uri_reference": ALL,
    "dag_tag": ALL,
    "dag_version": WRITE,
    "dag_warning": ALL,
    "deadline_alert": ALL,
    "import_error": ALL,
    "serialized_dag": WRITE,
    "asset": WRITE,
    "asset_active": ALL,
    "asset_alias": WRITE,
    "asset_watcher": ALL,
    "task_inlet_asset_reference": ALL,
    "task_outlet_asset_reference": ALL,
    # Names of permissions, which the DAG processor makes for each DAG. Who has one is in other tables.
    "ab_permission": ADD,
    "ab_permission_view": ADD,
    "ab_view_menu": ADD,
    # What the two components are asked to do.
    "callback": ALL,
    "dag_priority_parsing_request": "SELECT, DELETE",
    "trigger": ALL,
    # That a component works, and what it has done.
    "job": WRITE,
    "log": "SELECT (id), INSERT",
    # An event of a trigger resumes, ends or fails its task, or tells that an asset has changed.
    "task_instance": (
        "SELECT, UPDATE (id, start_date, end_date, duration, state, scheduled_dttm, next_kwargs, next_method, "
        "trigger_id, trigger_timeout, updated_at)"
    ),
    "task_instance_history": ADD,
    "task_reschedule": "SELECT, DELETE",
    "asset_alias_asset": ADD,
    "asset_alias_asset_event": ADD,
    "asset_dag_run_queue": ADD,
    "asset_event": ADD,
    "asset_partition_dag_run": WRITE,
    "partitioned_asset_key_log": ADD,
    # What a task can read and write too, with its token.
    "asset_state_store": ALL,
    "hitl_detail": "SELECT, UPDATE",
    "hitl_detail_history": ADD,
    "xcom": ALL,
    "connection": READ,
    "dag_run": READ,
    "slot_pool": READ,
    "task_map": READ,
    "variable": READ,
    # What Airflow looks up on the way.
    "alembic_version": READ,
    "dag_bundle_team": READ,
    "deadline": READ,
    "log_template": READ,
    "team": READ,
}
"""What the role of DAG processor and triggerer may do, by table; both of Airflow 3.3.2 were seen to work with it.

Where columns are listed no other one can be written. That matters most for `executor_config` of task instances: it is a
pickle, and scheduler and API server run code that is in it.
"""
REFUSED = {
    **dict.fromkeys(
        ("ab_group", "ab_group_role", "ab_permission_view_role", "ab_register_user", "ab_role", "ab_user",
         "ab_user_group", "ab_user_role"),
        "who may log in, with hashes of passwords, and what each may do",
    ),
    "alembic_version_fab": "only a migration looks at it",
    "backfill": "only scheduler and API server use it",
    "backfill_dag_run": "only scheduler and API server use it",
    "connection_test_request": "holds credentials; only scheduler and API server use it",
    "dag_favorite": "belongs to users",
    "dag_run_note": "belongs to users",
    "dagrun_asset_event": "only scheduler and API server use it",
    "rendered_task_instance_fields": "only API server and scheduler use it",
    "revoked_token": "a deleted row would make a token valid again",
    "session": "logins on the page",
    "task_instance_note": "belongs to users",
    "task_state_store": "only the API server uses it",
}  # fmt: skip
"""Tables of which that role may not even read a row, and why; so it is with tables of neither list."""
KEEPER = "platform_keep_executor_config"
"""A trigger of PostgreSQL on `task_instance_history`.

When a trigger of Airflow fails a task that has tries left, the triggerer writes the former try there with its
`executor_config`. Whatever it writes, that of the task instance is stored.
"""
TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = ANY (:kinds)
  AND pg_has_role(relowner, 'USAGE') ORDER BY relname
"""
COLUMNS = """
SELECT attrelid::regclass::text, attname FROM pg_attribute
WHERE attrelid = ANY (SELECT to_regclass(quote_ident(name)) FROM unnest(CAST(:tables AS text[])) AS name)
  AND attnum > 0 AND NOT attisdropped
"""
SEQUENCES = """
SELECT sequence.relname FROM pg_class AS sequence JOIN pg_depend ON objid = sequence.oid AND deptype IN ('a', 'i')
JOIN pg_class AS used ON refobjid = used.oid
WHERE sequence.relkind = 'S' AND used.relnamespace = current_schema()::regnamespace AND used.relname = ANY (:tables)
UNION
SELECT relname FROM pg_class JOIN unnest(CAST(:tables AS text[])) AS name ON relname = name || '_id_seq'
WHERE relkind = 'S' AND relnamespace = current_schema()::regnamespace
"""
"""Of the columns of tables; some of Airflow's are only known by their name."""
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
    # Whoever waits for a lock holds up all queries that come after it.
    database.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
    for kind in KINDS:
        check_role(database, owner, role_of(owner, kind))
    close_to_everybody(database, [role_of(owner, kind) for kind in KINDS])
    for kind in KINDS:
        enter(database, role_of(owner, kind))
    grant_reader(database, owner, role_of(owner, READER))
    grant_dag_code(database, owner, role_of(owner, DAG_CODE))


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


def grant_dag_code(database: sa.Connection, owner: str, role: str) -> None:
    """Give the role of DAG processor and triggerer what `GRANTED` lists, as far as this schema has it."""
    there = columns(database)
    for table, listed in GRANTED.items():
        if table in there and (text := limited(listed, there[table])):
            database.execute(sa.text(f"GRANT {text} ON TABLE {quoted(table)} TO {quoted(role)}"))
    inserts = [table for table, listed in GRANTED.items() if table in there and "INSERT" in listed]
    for sequence in database.scalars(sa.text(SEQUENCES), {"tables": inserts}):
        database.execute(sa.text(f"GRANT USAGE ON SEQUENCE {quoted(sequence)} TO {quoted(role)}"))
    keep_executor_config(database, owner, there)
    print(f"{role} has its rights on {len(GRANTED.keys() & there.keys())} tables")
    if unknown := sorted(there.keys() - GRANTED.keys() - REFUSED.keys()):
        print(f"{role} has no rights on tables that this list does not know: {', '.join(unknown)}")


def columns(database: sa.Connection) -> dict[str, list[str]]:
    """Columns of each of the owner's tables."""
    tables = names(database, "r", "p")
    found: dict[str, list[str]] = {table: [] for table in tables}
    for table, column in database.execute(sa.text(COLUMNS), {"tables": tables}):
        found[table].append(column)
    return found


def limited(listed: str, there: list[str]) -> str:
    """Rights as GRANT takes them, without columns that an older schema does not have.

    Args:
        listed: A text of `GRANTED`.
        there: The columns of the table.
    """
    kept = []
    for right, named in re.findall(r"(\w+)(?: \(([^)]*)\))?", listed):
        known = [column for column in named.split(", ") if column in there]
        if known or not named:
            kept.append(f"{right} ({', '.join(map(quoted, known))})" if named else right)
    return ", ".join(kept)


def keep_executor_config(database: sa.Connection, owner: str, there: dict[str, list[str]]) -> None:
    """Make the trigger `KEEPER`, where this schema has what it is for."""
    if "executor_config" not in there.get("task_instance_history", ()):
        return
    schema = quoted(str(database.scalar(sa.text("SELECT current_schema()"))))
    same = " AND ".join(f"ti.{key} = NEW.{key}" for key in ("dag_id", "task_id", "run_id", "map_index"))
    # A login could have chosen another search_path: every name has its schema. The body's quotes have a tag, because
    # this program is in a pod's command during upgrades, and Kubernetes makes one dollar sign of two.
    database.exec_driver_sql(f"""
        CREATE OR REPLACE FUNCTION {schema}.{KEEPER}() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog AS $body$
        BEGIN
          IF NOT pg_has_role(current_user, {literal(owner)}, 'USAGE') THEN
            NEW.executor_config := (SELECT ti.executor_config FROM {schema}.task_instance AS ti WHERE {same});
          END IF;
          RETURN NEW;
        END $body$
    """)  # noqa: S608  # names of the catalogue and of our own, quoted
    made = "SELECT count(*) FROM pg_trigger WHERE tgname = :name AND tgrelid = to_regclass('task_instance_history')"
    # Making it locks the table.
    if not database.scalar(sa.text(made), {"name": KEEPER}):
        database.exec_driver_sql(
            f"CREATE TRIGGER {KEEPER} BEFORE INSERT ON {schema}.task_instance_history "
            f"FOR EACH ROW EXECUTE FUNCTION {schema}.{KEEPER}()"
        )


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
