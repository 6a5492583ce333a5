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
    # What is stored about DAGs. The DAG processor writes it from the files, and writes it again when a file changes.
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
CALLBACK_KEEPER = "platform_keep_callbacks"
"""One on `callback`: nobody but the owner may write a callback that the executor runs.

Scheduler and API server make those, from deadlines. The scheduler hands them to its executor, and ends where the row or
the executor is not what it expects. DAG processor and triggerer only work with the two other types.
"""
TRIGGER_KEEPER = "platform_keep_triggers"
"""One on `trigger`: a row that a task instance waits for stays when somebody else than the owner deletes it.

The foreign key would delete the task instance too. Airflow itself deletes only rows that nothing waits for.
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
MADE = """
SELECT nspname FROM pg_namespace WHERE pg_get_userbyid(nspowner) = :role
UNION ALL SELECT relname FROM pg_class WHERE pg_get_userbyid(relowner) = :role AND relkind NOT IN ('i', 'S', 't')
UNION ALL SELECT proname FROM pg_proc WHERE pg_get_userbyid(proowner) = :role
ORDER BY 1
"""
COUNTED = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = current_schema() AND (column_default LIKE 'nextval(%' OR is_identity = 'YES')
"""
"""Columns whose value comes from a sequence."""
LONGEST = 63
"""Bytes of a name in PostgreSQL."""
MEMBERSHIPS = """
SELECT roles.rolname FROM pg_auth_members JOIN pg_roles AS roles ON roles.oid = roleid
JOIN pg_roles AS members ON members.oid = member WHERE members.rolname = :name ORDER BY 1
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


def address(variable: str) -> sa.URL:
    """An address in the environment.

    Raises:
        ProblemError: It cannot be used. What it says is not shown, because a password is in it.
    """
    try:
        url = sa.make_url(os.environ[variable])
        sa.create_engine(url)
    except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
        raise ProblemError(
            f"the address in {variable} cannot be used ({type(error).__name__}): "
            "it has to be like the address of the owner, with special characters as %XX"
        ) from None
    return url


def owner_url() -> sa.URL:
    """Address of the metadata database for its owner."""
    return address("CONNECTION")


def logins() -> dict[str, tuple[sa.URL, str]]:
    """Address of each login and the Secret that it comes from, by kind of role."""
    wanted = json.loads(os.environ["LOGINS"])
    return {kind: (address(each["variable"]), each["secret"]) for kind, each in wanted.items()}


def acting(database: sa.Connection) -> str:
    """The role that a connection acts as."""
    return str(database.scalar(sa.text("SELECT current_user")))


def role_of(owner: str, kind: str) -> str:
    """The name of a role.

    Raises:
        ProblemError: It cannot have the name that follows from the owner's. PostgreSQL cuts the end off a longer one,
            and the driver takes a `%` in a statement for the place of a value.
    """
    role = f"{owner}_{kind}"
    if len(role.encode()) > LONGEST or "%" in role:
        raise ProblemError(
            f"the owner {owner} of the metadata database would have a role {role}: an administrator has to give the "
            f"owner a name without % and so short that the role's has at most {LONGEST} bytes (ALTER ROLE ... RENAME)"
        )
    return role


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
        owner, others = acting(database), acting_and_logged_in(database)
    with connected(address("CONNECTION_ADMIN")) as server:
        wanted = logins()
        others |= acting_and_logged_in(server)
        for kind, (url, secret) in wanted.items():
            # Whose login or role this is cannot be the login of another one too.
            taken = {role_of(owner, other) for other in KINDS if other != kind}
            taken |= {str(other.username) for name, (other, _) in wanted.items() if name != kind}
            check_login(server, owner, role_of(owner, kind), url, secret, others | taken)
        for kind, (url, _) in wanted.items():
            make_login(server, role_of(owner, kind), url)


def acting_and_logged_in(database: sa.Connection) -> set[str]:
    """The role that a connection acts as, and the login that it has come with."""
    return {acting(database), str(database.scalar(sa.text("SELECT session_user")))}


def check_login(server: sa.Connection, owner: str, role: str, url: sa.URL, secret: str, taken: set[str]) -> None:
    """Check, before anything is made, that a Secret has not the login of somebody who may more.

    That one would act as a role with few rights from then on, and get the password of the Secret.

    Raises:
        ProblemError: It has.
    """
    login = str(url.username)
    named = f"the login {login} of Secret {secret}"
    advice = f"give the Secret a login of its own, such as {role}, which the migration makes"
    if not url.username or login in taken:
        raise ProblemError(f"{named} is that of somebody else: {advice}")
    if exists(server, login) and (more := [*members_of_owner(server, login, owner), *more_than(server, login, role)]):
        raise ProblemError(f"{named} is {more[0]}: {advice}")


def members_of_owner(database: sa.Connection, login: str, owner: str) -> list[str]:
    """Words for a login that could act as the owner, by way of other roles too; none for one that could not."""
    query = sa.text("SELECT pg_has_role(:login, :owner, 'MEMBER')")
    is_member = database.scalar(query, {"login": login, "owner": owner})
    return [f"a member of {owner}, or a superuser"] if is_member else []


def more_than(database: sa.Connection, name: str, role: str) -> list[str]:
    """What a role or a login has beside the membership in its role, in words that go on after `is`."""
    found = [f"a member of {other}" for other in memberships(database, name) if other != role]
    return found + [f"a role with {power}" for power in powers(database, name)]


def memberships(database: sa.Connection, name: str) -> list[str]:
    """Roles that a role or login is a member of."""
    return [str(role) for role in database.scalars(sa.text(MEMBERSHIPS), {"name": name})]


def powers(database: sa.Connection, name: str) -> list[str]:
    """What a role or login may do on the whole server."""
    entry = database.execute(sa.text("SELECT * FROM pg_roles WHERE rolname = :name"), {"name": name}).mappings().one()
    return [power for power in POWERS if entry[power]]


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
    roles = [role_of(owner, kind) for kind in KINDS]
    # A second run waits for the first one: PostgreSQL refuses two changes of the same right at the same time.
    database.execute(sa.text("SET LOCAL lock_timeout = '60s'"))
    database.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": "platform_database_rights"})
    # Whoever waits for a lock on a table holds up all queries that come after it.
    database.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
    for role in roles:
        check_role(database, owner, role)
    close_to_everybody(database)
    for role in roles:
        enter(database, owner, role)
    for role in roles:
        check_makes_nothing(database, role)
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
    if others := memberships(database, role):
        raise ProblemError(
            f"{role} is a member of {', '.join(others)} and has their rights: an administrator has to run "
            f"REVOKE {', '.join(map(quoted, others))} FROM {quoted(role)}"
        )
    if found := powers(database, role):
        raise ProblemError(
            f"{role} has {', '.join(found)}: an administrator has to run ALTER ROLE {quoted(role)} "
            "NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
        )


def here(database: sa.Connection) -> tuple[str, str]:
    """Database and schema of a connection, quoted."""
    name, schema = database.execute(sa.text("SELECT current_database(), current_schema()")).one()
    return quoted(str(name)), quoted(str(schema))


def attempt(database: sa.Connection, *statements: str) -> None:
    """Run statements that fail where a database or schema is somebody else's; see `check_makes_nothing`."""
    for statement in statements:
        with suppress(sa.exc.DBAPIError), database.begin_nested():
            database.execute(sa.text(statement))


def close_to_everybody(database: sa.Connection) -> None:
    """Take from everybody the right to make schemas, tables and functions, which the owner would use by mistake."""
    name, schema = here(database)
    attempt(
        database,
        f"REVOKE CREATE, TEMPORARY ON DATABASE {name} FROM PUBLIC CASCADE",
        f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC CASCADE",
    )


def check_makes_nothing(database: sa.Connection, role: str) -> None:
    """Check that a role has made nothing and cannot make anything in this database.

    In a schema with the owner's name, tables would come before the real ones in the owner's search_path.

    Raises:
        ProblemError: It can, because database or schema belong to somebody else, or it has.
    """
    name, schema = here(database)
    may = "SELECT has_schema_privilege(:role, CAST(current_schema() AS text), 'CREATE')"
    if database.scalar(sa.text(may), {"role": role}):
        raise ProblemError(
            f"{role} may make tables and functions in schema {schema}: an administrator has to run "
            f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {quoted(role)} in database {name}"
        )
    may = "SELECT has_database_privilege(:role, current_database(), 'CREATE, TEMPORARY')"
    if database.scalar(sa.text(may), {"role": role}):
        raise ProblemError(
            f"{role} may make schemas or temporary tables in database {name}: an administrator has to run "
            f"REVOKE CREATE, TEMPORARY ON DATABASE {name} FROM PUBLIC, {quoted(role)}"
        )
    if made := [str(thing) for thing in database.scalars(sa.text(MADE), {"role": role})]:
        raise ProblemError(
            f"{role} owns {', '.join(made)} in database {name}: an administrator has to look at it, and to run "
            f"DROP OWNED BY {quoted(role)} there"
        )


def names(database: sa.Connection, *kinds: str) -> list[str]:
    """Tables and views, or sequences, of the owner."""
    return [str(name) for name in database.scalars(sa.text(TABLES), {"kinds": list(kinds)})]


def every(database: sa.Connection) -> list[tuple[str, list[str]]]:
    """All of the owner's tables and sequences, as GRANT takes them; what there is none of is left out."""
    found = [("TABLE", names(database, "r", "p", "v", "m")), ("SEQUENCE", names(database, "S"))]
    return [(kind, those) for kind, those in found if those]


def enter(database: sa.Connection, owner: str, role: str) -> None:
    """Let a role connect, and take from it whatever else it, or everybody, may do in this database."""
    name, schema = here(database)
    to = quoted(role)
    attempt(database, f"REVOKE ALL ON DATABASE {name} FROM {to} CASCADE")
    attempt(database, f"REVOKE ALL ON SCHEMA {schema} FROM {to} CASCADE")
    for kind, those in every(database):
        named = ", ".join(map(quoted, those))
        database.execute(sa.text(f"REVOKE ALL ON {kind} {named} FROM {to}, PUBLIC CASCADE"))
    for kind in ("TABLES", "SEQUENCES"):
        for scope in ("", f" IN SCHEMA {schema}"):
            defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(owner)}{scope}"
            database.execute(sa.text(f"{defaults} REVOKE ALL ON {kind} FROM {to}, PUBLIC"))
    database.execute(sa.text(f"GRANT CONNECT ON DATABASE {name} TO {to}"))
    database.execute(sa.text(f"GRANT USAGE ON SCHEMA {schema} TO {to}"))


def grant_reader(database: sa.Connection, owner: str, role: str) -> None:
    """Let the reader read every table and sequence, and those that the owner makes later."""
    for kind, those in every(database):
        database.execute(sa.text(f"GRANT SELECT ON {kind} {', '.join(map(quoted, those))} TO {quoted(role)}"))
    for kind in ("TABLES", "SEQUENCES"):
        defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(owner)} IN SCHEMA"
        database.execute(sa.text(f"{defaults} {here(database)[1]} GRANT SELECT ON {kind} TO {quoted(role)}"))
    print(f"{role} may read everything")


def grant_dag_code(database: sa.Connection, owner: str, role: str) -> None:
    """Give the role of DAG processor and triggerer what `GRANTED` lists, as far as this schema has it."""
    there = columns(database)
    counted = {(table, column) for table, column in database.execute(sa.text(COUNTED))}
    for table, listed in GRANTED.items():
        if table not in there:
            continue
        numbers = [column for column in there[table] if (table, column) in counted]
        if text := limited(listed, there[table], numbers):
            database.execute(sa.text(f"GRANT {text} ON TABLE {quoted(table)} TO {quoted(role)}"))
    inserts = [table for table, listed in GRANTED.items() if table in there and "INSERT" in listed]
    for sequence in database.scalars(sa.text(SEQUENCES), {"tables": inserts}):
        database.execute(sa.text(f"GRANT USAGE ON SEQUENCE {quoted(sequence)} TO {quoted(role)}"))
    keep_executor_config(database, owner, there)
    keep_callbacks(database, owner, there)
    keep_triggers(database, owner, there)
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


def limited(listed: str, there: list[str], numbers: list[str]) -> str:
    """Rights as GRANT takes them, without columns that an older schema does not have.

    Numbers that come from a sequence cannot be written: a row with a number that is yet to come would make the owner's
    insert fail.

    Args:
        listed: A text of `GRANTED`.
        there: The columns of the table.
        numbers: Those of them whose value comes from a sequence.
    """
    kept = []
    for right, named in re.findall(r"(\w+)(?: \(([^)]*)\))?", listed):
        wanted = named.split(", ") if named else []
        if numbers and not named and right in ("INSERT", "UPDATE"):
            wanted = [column for column in there if column not in numbers]
        known = [column for column in wanted if column in there]
        if known or not wanted:
            kept.append(f"{right} ({', '.join(map(quoted, known))})" if wanted else right)
    return ", ".join(kept)


def keep_executor_config(database: sa.Connection, owner: str, there: dict[str, list[str]]) -> None:
    """Make the trigger `KEEPER`, where this schema has what it is for."""
    if "executor_config" not in there.get("task_instance_history", ()):
        return
    same = " AND ".join(f"ti.{key} = NEW.{key}" for key in ("dag_id", "task_id", "run_id", "map_index"))
    body = f"""
        NEW.executor_config := (SELECT ti.executor_config FROM {here(database)[1]}.task_instance AS ti WHERE {same});
    """  # noqa: S608  # names of our own
    keep(database, owner, KEEPER, "INSERT ON task_instance_history", body)


def keep_callbacks(database: sa.Connection, owner: str, there: dict[str, list[str]]) -> None:
    """Make the trigger `CALLBACK_KEEPER`, where this schema has what it is for."""
    if "type" not in there.get("callback", ()):
        return
    body = """
        IF NEW.type NOT IN ('triggerer', 'dag_processor') OR OLD.type NOT IN ('triggerer', 'dag_processor') THEN
          RAISE insufficient_privilege USING MESSAGE = 'permission denied for callbacks of type ' || NEW.type;
        END IF;
    """
    keep(database, owner, CALLBACK_KEEPER, "INSERT OR UPDATE ON callback", body)


def keep_triggers(database: sa.Connection, owner: str, there: dict[str, list[str]]) -> None:
    """Make the trigger `TRIGGER_KEEPER`, where this schema has what it is for."""
    if "trigger" not in there or "trigger_id" not in there.get("task_instance", ()):
        return
    body = f"""
        IF EXISTS (SELECT FROM {here(database)[1]}.task_instance AS ti WHERE ti.trigger_id = OLD.id) THEN
          RETURN NULL;
        END IF;
    """  # names of our own
    keep(database, owner, TRIGGER_KEEPER, 'DELETE ON "trigger"', body)


def keep(database: sa.Connection, owner: str, name: str, event: str, body: str) -> None:
    """Make a trigger of PostgreSQL that does something for each row that anybody but the owner writes or deletes.

    Args:
        database: A connection of the owner.
        owner: The owner.
        name: The name of the trigger and its function.
        event: What it comes before, with the table: `INSERT ON log`.
        body: Statements of PL/pgSQL.
    """
    schema = here(database)[1]
    done, _, table = event.partition(" ON ")
    # A login could have chosen another search_path: every name has its schema. The body's quotes have a tag, because
    # this program is in a pod's command during upgrades, and Kubernetes makes one dollar sign of two.
    database.exec_driver_sql(f"""
        CREATE OR REPLACE FUNCTION {schema}.{name}() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog AS $body$
        BEGIN
          IF NOT pg_has_role(current_user, {literal(owner)}, 'USAGE') THEN
            {body}
          END IF;
          RETURN {"OLD" if done == "DELETE" else "NEW"};
        END $body$
    """)
    made = "SELECT count(*) FROM pg_trigger WHERE tgname = :name AND tgrelid = to_regclass(:table)"
    # Making it locks the table.
    if not database.scalar(sa.text(made), {"name": name, "table": table}):
        database.exec_driver_sql(
            f"CREATE TRIGGER {name} BEFORE {done} ON {schema}.{table} FOR EACH ROW EXECUTE FUNCTION {schema}.{name}()"
        )


def check() -> None:
    """Log in with each login.

    Raises:
        ProblemError: One cannot, or acts as another role than its own, or could act as the owner or somebody else.
    """
    with connected(owner_url()) as database:
        owner = acting(database)
    for kind, (url, secret) in logins().items():
        role = role_of(owner, kind)
        try:
            with connected(url) as database:
                acts = how_wrong(database, owner, role)
        except sa.exc.SQLAlchemyError as error:
            raise ProblemError(f"the login {url.username} of Secret {secret} does not work: {cause(error)}") from error
        if acts:
            raise ProblemError(
                f"the login {url.username} of Secret {secret} {acts}: give it a login that is {role}, or that acts "
                "as it and is a member of no other role, and has no right on the server but LOGIN"
            )
        print(f"{url.username} logs in and acts as {role}")


def how_wrong(database: sa.Connection, owner: str, role: str) -> str:
    """What a login does that it should not; nothing where it acts as its role and as nobody else.

    The login counts too: `SET ROLE NONE` leads back to it.
    """
    login = str(database.scalar(sa.text("SELECT session_user")))
    if members_of_owner(database, login, owner):
        return f"may act as {owner}"
    if (found := acting(database)) != role:
        return f"acts as {found}"
    more = more_than(database, login, role)
    return f"is {', and '.join(more)}" if more else ""


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
