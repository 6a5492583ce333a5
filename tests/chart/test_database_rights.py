"""The database's roles beside the owner, on a real PostgreSQL that Airflow's own migration has filled."""

import importlib.util
import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import airflow.models
import pytest
import sqlalchemy as sa

from airflow_ops.paths import ROOT
from airflow_ops.waiting import wait_until
from support.airflow_processes import DAG_CODE, OWNER, READER, RIGHTS, execute, migrated_server, rights
from support.metadata_database import Server, running_database_exporter
from support.metadata_database import insert as insert_row

pytestmark = pytest.mark.xdist_group("database_rights")  # the migration runs once
SCRIPTS = ROOT / "charts/platform/files/scripts"
DENIED = "permission denied"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with migrated_server(tmp_path_factory.mktemp("airflow")) as server:
        answer = rights(server.url(OWNER), "grant")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        yield server


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """The script."""
    spec = importlib.util.spec_from_file_location("database_rights", RIGHTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refusal(server: Server, role: str, statement: str, database: str = "airflow") -> str:
    """What the server says to a statement of a role; nothing where it obeys. What it did is taken back."""
    try:
        with server.engine(role, database).connect() as connection:
            connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        return str(error.orig)
    return ""


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM connection",
        "SELECT * FROM variable",
        "SELECT executor_config FROM task_instance",
        "SELECT conf FROM dag_run",
        "INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('a', '{}', now()) RETURNING id",
        "INSERT INTO ab_view_menu (id, name) VALUES (nextval('ab_view_menu_id_seq'), 'DAG:a')",
        "INSERT INTO log (dttm, event) VALUES (now(), 'a') RETURNING id",
        "UPDATE task_instance SET state = 'scheduled', next_kwargs = '{}', trigger_id = NULL",
        "SELECT * FROM trigger FOR UPDATE SKIP LOCKED",
        "SELECT * FROM dag FOR NO KEY UPDATE",
        "DELETE FROM import_error",
        "SELECT pg_advisory_xact_lock(1)",
    ],
)
def test_the_code_of_dags_may_do_what_its_components_do(server: Server, statement: str) -> None:
    assert refusal(server, DAG_CODE, statement) == ""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE task_instance SET executor_config = 'a pickle'",
        "UPDATE task_instance_history SET executor_config = 'a pickle'",
        "UPDATE task_instance SET dag_id = 'another', pool = 'another', queue = 'another'",
        "INSERT INTO task_instance SELECT * FROM task_instance",
        "SELECT password FROM ab_user",
        "INSERT INTO ab_user_role (id, user_id, role_id) VALUES (1, 1, 1)",
        "INSERT INTO ab_permission_view_role (id, permission_view_id, role_id) VALUES (1, 1, 1)",
        "UPDATE ab_view_menu SET name = 'a'",
        "UPDATE connection SET host = 'a'",
        "INSERT INTO connection (conn_id, conn_type) VALUES ('a', 'http')",
        "DELETE FROM connection",
        "INSERT INTO variable (key, val) VALUES ('a', 'b')",
        "UPDATE variable SET val = 'a'",
        "UPDATE dag_run SET conf = NULL",
        "INSERT INTO dag_run SELECT * FROM dag_run",
        "DELETE FROM revoked_token",
        "SELECT * FROM session",
        "SELECT dttm, extra FROM log",
        "INSERT INTO log (id, dttm, event) VALUES (2000000000, now(), 'a')",
        "INSERT INTO trigger (id, classpath, kwargs, created_date) VALUES (2000000000, 'a', '{}', now())",
        "UPDATE job SET id = 2000000000",
        "UPDATE log SET event = 'a'",
        "DELETE FROM log",
        "DELETE FROM job",
        "TRUNCATE import_error",
        "CREATE TABLE mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "CREATE FUNCTION public.count(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER mine BEFORE INSERT ON xcom EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "COMMENT ON DATABASE airflow IS 'restored from another'",
    ],
)
def test_the_code_of_dags_may_not_do_what_only_others_do(server: Server, statement: str) -> None:
    answer = refusal(server, DAG_CODE, statement)
    assert DENIED in answer or "must be owner" in answer, answer


def test_the_code_of_dags_does_not_become_somebody_else(server: Server) -> None:
    for statement in (
        "SET ROLE airflow",
        "SET SESSION AUTHORIZATION airflow",
        "SET session_replication_role = replica",
    ):
        assert DENIED in refusal(server, DAG_CODE, statement), statement


def test_whoever_writes_a_former_try_chooses_no_pickle(server: Server) -> None:
    """Without the trigger of PostgreSQL the role could give the API server any."""
    columns = (
        "task_instance_id, dag_id, task_id, run_id, map_index, try_number, max_tries, pool, pool_slots, executor_config"
    )
    values = "gen_random_uuid(), 'none', 'none', 'none', -1, {number}, 0, 'a', 1, '\\x8004'"
    insert = f"INSERT INTO task_instance_history ({columns}) VALUES ({values})"  # noqa: S608
    with server.engine().connect() as connection:
        # Its foreign key needs a task instance, which is not what this is about.
        connection.execute(sa.text("ALTER TABLE task_instance_history DROP CONSTRAINT task_instance_history_ti_fkey"))
        for number, role in ((1, DAG_CODE), (2, OWNER)):
            connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
            connection.execute(sa.text(insert.format(number=number)))
        connection.execute(sa.text("RESET ROLE"))
        query = "SELECT try_number, executor_config IS NULL FROM task_instance_history ORDER BY 1"
        assert connection.execute(sa.text(query)).all() == [(1, True), (2, False)]


CALLBACK = (
    "INSERT INTO callback (id, type, fetch_method, data, priority_weight, created_at, state) "
    "VALUES (gen_random_uuid(), '{}', 'import_path', '{{}}', 1, now(), 'pending')"
)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("triggerer", "state = 'success'", ""),
        ("dag_processor", "priority_weight = 2", ""),
        ("triggerer", "type = 'executor'", DENIED),
        ("executor", "data = '{}'", DENIED),
        ("unknown", "state = 'success'", DENIED),
    ],
)
def test_only_the_owner_tells_the_scheduler_what_to_run(server: Server, kind: str, change: str, said: str) -> None:
    """A callback for the executor ends a scheduler whose executor does not run any."""
    assert refusal(server, OWNER, CALLBACK.format(kind)) == ""
    execute(server, CALLBACK.format(kind), role=OWNER)
    try:
        changed = refusal(server, DAG_CODE, f"UPDATE callback SET {change}")  # noqa: S608
        made = refusal(server, DAG_CODE, CALLBACK.format(kind))
    finally:
        execute(server, "DELETE FROM callback", role=OWNER)
    assert (said in changed) if said else not changed
    assert (DENIED in made) if kind in ("executor", "unknown") else not made


def test_whoever_deletes_a_trigger_does_not_delete_the_task_that_waits_for_it(server: Server) -> None:
    """The foreign key would. Airflow itself only deletes triggers that nothing waits for."""
    with server.engine().connect() as connection:
        # Its foreign keys need a DAG and a run, which are not what this is about.
        airflow.models.import_all_models()  # type: ignore[no-untyped-call]
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        insert = "INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('a', '{}', now()) RETURNING id"
        waited_for, unused = (connection.scalar(sa.text(insert)) for _ in range(2))
        insert_row(connection, "task_instance", id=uuid4(), trigger_id=waited_for)
        connection.execute(sa.text("SET LOCAL session_replication_role = origin"))
        for role, left in ((DAG_CODE, [waited_for]), (OWNER, [])):
            connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
            connection.execute(sa.text("DELETE FROM trigger"))
            connection.execute(sa.text("RESET ROLE"))
            assert connection.scalars(sa.text("SELECT id FROM trigger")).all() == left
            assert connection.scalars(sa.text("SELECT trigger_id FROM task_instance")).all() == left
    assert unused


def test_every_table_is_granted_or_refused_with_a_reason(server: Server, module: ModuleType) -> None:
    """A new version of Airflow may bring one: look what DAG processor and triggerer do with it."""
    tables = set(sa.inspect(server.engine()).get_table_names())
    assert tables == module.GRANTED.keys() | module.REFUSED.keys()
    assert not module.GRANTED.keys() & module.REFUSED.keys()
    for table, listed in module.GRANTED.items():
        there = {column["name"] for column in sa.inspect(server.engine()).get_columns(table)}
        named = {column for group in re.findall(r"\(([^)]*)\)", listed) for column in group.split(", ")}
        assert named <= there, table


def test_a_table_that_the_list_does_not_know_is_named_and_closed(server: Server) -> None:
    execute(server, "CREATE TABLE later (id serial)", role=OWNER)
    answer = rights(server.url(OWNER), "grant")
    closed = refusal(server, DAG_CODE, "SELECT * FROM later")
    execute(server, "DROP TABLE later", role=OWNER)
    assert answer.returncode == 0
    assert "airflow_dag_code has no rights on tables that this list does not know: later" in answer.stdout
    assert DENIED in closed


def test_an_older_schema_gets_what_it_has(server: Server, module: ModuleType) -> None:
    """Before a migration, and where an older Airflow is restored."""
    with server.engine(OWNER).connect() as connection:
        connection.execute(
            sa.text("DROP TABLE asset_state_store; ALTER TABLE task_instance DROP COLUMN trigger_timeout")
        )
        module.grant_in(connection)
        query = "SELECT has_column_privilege('airflow_dag_code', 'task_instance', :column, 'UPDATE')"
        found = {c: connection.scalar(sa.text(query), {"column": c}) for c in ("state", "executor_config", "queue")}
    assert found == {"state": True, "executor_config": False, "queue": False}


def logins(server: Server, **users: str) -> dict[str, str]:
    """Environment of the script with a login for each kind of role."""
    wanted = {kind: {"variable": kind.upper(), "secret": f"airflow-metadata-{kind}"} for kind in users}
    return {"LOGINS": json.dumps(wanted), **{kind.upper(): server.url(user) for kind, user in users.items()}}


@pytest.mark.parametrize("statement", ["SELECT * FROM ab_user", "SELECT * FROM dag_run", "SELECT * FROM log_id_seq"])
def test_the_reader_reads(server: Server, statement: str) -> None:
    assert refusal(server, READER, statement) == ""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dag_run SET conf = NULL",
        "INSERT INTO variable (key, val) VALUES ('a', 'b')",
        "DELETE FROM log",
        "SELECT nextval('log_id_seq')",
        "SELECT * FROM dag_run FOR UPDATE",
        "CREATE TABLE mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "CREATE ROLE mine",
    ],
)
def test_the_reader_does_nothing_else(server: Server, statement: str) -> None:
    assert DENIED in refusal(server, READER, statement)


@pytest.mark.parametrize("role", [READER, DAG_CODE])
def test_no_role_runs_a_program(server: Server, role: str) -> None:
    assert "superuser" in refusal(server, role, "COPY (SELECT 1) TO PROGRAM 'cat'")


def test_the_exporter_reads_every_metric_as_the_reader(server: Server) -> None:
    with running_database_exporter(server.url(READER)) as exporter:
        read = {labels: value for (name, labels), value in exporter.scrape().items() if name.endswith("query_success")}
    assert len(read) > 10
    assert set(read.values()) == {1.0}, read


def dump(server: Server, folder: Path) -> subprocess.CompletedProcess[str]:
    """Dump as the backup does, with the login of the reader."""
    service = f"[metadata]\nhost={server.folder}\nuser={READER}\ndbname=airflow\n"
    (folder / "pg_service.conf").write_text(service)
    environment = {"PATH": f"{server.programs}:/usr/bin:/bin", "WORK": str(folder)}
    environment["PGSERVICEFILE"] = str(folder / "pg_service.conf")
    return subprocess.run(["bash", SCRIPTS / "backup_dump.sh"], env=environment, capture_output=True, text=True)


def test_a_dump_of_the_reader_is_whole_and_can_be_loaded_where_no_role_is(server: Server, tmp_path: Path) -> None:
    made = dump(server, tmp_path)
    assert made.returncode == 0, made.stderr
    execute(server, "CREATE DATABASE copy OWNER airflow")
    (tmp_path / "pg_service.conf").write_text(f"[restored]\nhost={server.folder}\nuser={OWNER}\ndbname=copy\n")
    environment = {"PATH": f"{server.programs}:/usr/bin:/bin", "WORK": str(tmp_path)}
    environment["PGSERVICEFILE"] = str(tmp_path / "pg_service.conf")
    loaded = subprocess.run(["bash", SCRIPTS / "backup_load.sh"], env=environment, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    count = sa.text("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    counts = []
    for database in ("airflow", "copy"):
        with server.engine(database=database).connect() as connection:
            counts.append(connection.scalar(count))
    assert counts[0] == counts[1]
    assert DENIED in refusal(server, READER, "SELECT * FROM dag_run", "copy"), "rights are given again, not dumped"
    assert rights(server.url(OWNER, "copy"), "grant").returncode == 0
    assert refusal(server, READER, "SELECT * FROM dag_run", "copy") == ""
    execute(server, "DROP DATABASE copy", database="postgres")


def test_nobody_can_stop_the_backups_with_a_large_object(server: Server, tmp_path: Path) -> None:
    """Every role may make one, which only its owner may read."""
    execute(server, "SELECT lo_create(4711)")
    made = dump(server, tmp_path)
    execute(server, "SELECT lo_unlink(4711)")
    assert made.returncode == 0, made.stderr


def test_a_table_of_a_later_migration_can_be_read_at_once(server: Server) -> None:
    execute(server, "CREATE TABLE later (id serial)", role=OWNER)
    assert refusal(server, READER, "SELECT * FROM later") == ""
    execute(server, "DROP TABLE later", role=OWNER)


def test_rights_that_somebody_added_are_taken_back(server: Server) -> None:
    execute(server, f"GRANT ALL ON variable TO {READER}", role=OWNER)
    execute(server, f"GRANT UPDATE (conf) ON dag_run TO {READER}", role=OWNER)
    assert rights(server.url(OWNER), "grant").returncode == 0
    assert DENIED in refusal(server, READER, "DELETE FROM variable")
    assert DENIED in refusal(server, READER, "UPDATE dag_run SET conf = NULL")


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("GRANT CREATE ON DATABASE airflow TO airflow_dag_code", "CREATE SCHEMA airflow"),
        ("GRANT CREATE ON DATABASE airflow TO PUBLIC", "CREATE SCHEMA airflow"),
        ("GRANT TEMPORARY ON DATABASE airflow TO airflow_dag_code", "CREATE TEMP TABLE mine (a int)"),
        ("GRANT CREATE ON SCHEMA public TO airflow_dag_code", "CREATE TABLE mine (a int)"),
        ("GRANT SELECT ON ab_user TO PUBLIC", "SELECT * FROM ab_user"),
        ("GRANT UPDATE (conf) ON dag_run TO PUBLIC", "UPDATE dag_run SET conf = NULL"),
        ("GRANT UPDATE ON SEQUENCE log_id_seq TO PUBLIC", "SELECT setval('log_id_seq', 1)"),
    ],
)
def test_rights_from_elsewhere_are_taken_back_too(server: Server, statement: str, refused: str) -> None:
    """With a schema named as the owner, its tables would come before the real ones in the owner's search_path."""
    execute(server, statement, role=OWNER)
    assert refusal(server, DAG_CODE, refused) == ""
    assert rights(server.url(OWNER), "grant").returncode == 0
    assert DENIED in refusal(server, DAG_CODE, refused)


@pytest.mark.parametrize("scope", ["IN SCHEMA public", ""])
def test_a_later_table_is_closed_whatever_the_defaults_were(server: Server, scope: str) -> None:
    for grantee in (DAG_CODE, "PUBLIC"):
        execute(server, f"ALTER DEFAULT PRIVILEGES {scope} GRANT ALL ON TABLES TO {grantee}", role=OWNER)
    assert rights(server.url(OWNER), "grant").returncode == 0
    execute(server, "CREATE TABLE later (id serial)", role=OWNER)
    closed = refusal(server, DAG_CODE, "SELECT * FROM later")
    readable = refusal(server, READER, "SELECT * FROM later")
    execute(server, "DROP TABLE later", role=OWNER)
    assert DENIED in closed
    assert readable == ""


def test_a_right_that_a_role_has_passed_on_is_taken_back(server: Server) -> None:
    execute(server, f"GRANT SELECT ON variable TO {READER} WITH GRANT OPTION", role=OWNER)
    execute(server, f"GRANT SELECT ON variable TO {OWNER}, watcher", role=READER)
    answer = rights(server.url(OWNER), "grant")
    assert answer.returncode == 0, answer.stdout
    with server.engine().connect() as connection:
        query = "SELECT relacl::text FROM pg_class WHERE relname = 'variable'"
        assert "watcher" not in str(connection.scalar(sa.text(query)))


def test_a_database_of_somebody_else_in_which_everybody_may_make_schemas_is_refused(server: Server) -> None:
    execute(server, "CREATE DATABASE lent", database="postgres")
    execute(server, "GRANT CREATE ON DATABASE lent TO PUBLIC", "ALTER SCHEMA public OWNER TO airflow", database="lent")
    answer = rights(server.url(OWNER, "lent"), "grant")
    execute(server, "DROP DATABASE lent", database="postgres")
    assert answer.returncode == 1
    assert "REVOKE CREATE, TEMPORARY ON DATABASE lent FROM PUBLIC" in answer.stdout


@pytest.mark.parametrize("thing", ["SCHEMA airflow", "TABLE public.mine (a int)"])
def test_a_role_that_has_made_something_before_is_refused(server: Server, thing: str) -> None:
    kind, name, *_ = thing.split()
    execute(server, f"CREATE {thing}", f"ALTER {kind} {name} OWNER TO {DAG_CODE}")
    answer = rights(server.url(OWNER), "grant")
    execute(server, f"DROP {kind} {name}")
    assert answer.returncode == 1
    assert f"{DAG_CODE} owns {name.removeprefix('public.')}" in answer.stdout


def test_a_missing_role_is_named_with_what_makes_it(server: Server) -> None:
    execute(server, f"ALTER ROLE {READER} RENAME TO other")
    answer = rights(server.url(OWNER), "grant")
    execute(server, f"ALTER ROLE other RENAME TO {READER}")
    assert answer.returncode == 1
    assert answer.stdout.startswith("problem: ")
    assert f"CREATE ROLE {READER} LOGIN PASSWORD" in answer.stdout


@pytest.mark.parametrize(
    ("change", "back", "named"),
    [
        ("GRANT airflow TO {0}", "REVOKE airflow FROM {0}", "member of airflow"),
        ("GRANT pg_read_all_data TO {0}", "REVOKE pg_read_all_data FROM {0}", "REVOKE pg_read_all_data FROM"),
        ("GRANT airflow_dag_code TO {0}", "REVOKE airflow_dag_code FROM {0}", "member of airflow_dag_code"),
        ("ALTER ROLE {0} SUPERUSER", "ALTER ROLE {0} NOSUPERUSER", "superuser"),
        ("ALTER ROLE {0} CREATEROLE", "ALTER ROLE {0} NOCREATEROLE", "rolcreaterole"),
    ],
)
def test_a_role_that_may_more_is_refused(server: Server, change: str, back: str, named: str) -> None:
    execute(server, change.format(READER))
    answer = rights(server.url(OWNER), "grant")
    execute(server, back.format(READER))
    assert answer.returncode == 1
    assert named in answer.stdout
    assert READER in answer.stdout


@pytest.mark.parametrize("owner", ["a" * 55, "a%b"])
def test_an_owner_whose_roles_cannot_have_their_names_is_refused(server: Server, owner: str) -> None:
    """PostgreSQL would cut the end off, and both roles could be one."""
    execute(server, f'CREATE ROLE "{owner}" LOGIN', f'GRANT CONNECT ON DATABASE airflow TO "{owner}"')
    answer = rights(server.url(owner.replace("%", "%25")), "grant")
    execute(server, f'DROP OWNED BY "{owner}"', f'DROP ROLE "{owner}"')
    assert answer.returncode == 1
    assert answer.stdout.startswith(f"problem: the owner {owner}"), answer.stdout


@pytest.mark.parametrize("address", ["postgresql+pg8000://a:secret@b/c", "postgresql://a:1@2:secret@b:x/c"])
def test_an_address_that_cannot_be_used_is_named_without_what_is_in_it(address: str) -> None:
    answer = rights(address, "grant")
    assert answer.returncode == 1
    assert answer.stdout.startswith("problem: the address in CONNECTION"), answer.stdout + answer.stderr
    assert "secret" not in answer.stdout + answer.stderr


def test_two_at_once_wait_for_each_other(server: Server, module: ModuleType) -> None:
    """As a deploy's Job and that of an upgrade: PostgreSQL would refuse the second one's change of the same row."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'airflow' AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as pool:
        with server.engine(OWNER).begin() as connection:
            module.grant_in(connection)
            second = pool.submit(rights, server.url(OWNER), "grant")
            with server.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as watching:
                assert wait_until(lambda: watching.scalar(sa.text(query)) or second.done(), 120, 0.2)
        answer = second.result()
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_schema_in_which_everybody_may_make_things_is_refused_where_it_is_not_the_owners(server: Server) -> None:
    """As PostgreSQL 14 made it: a function there could be called by the owner in place of PostgreSQL's."""
    execute(server, "ALTER SCHEMA public OWNER TO postgres", "GRANT CREATE ON SCHEMA public TO PUBLIC")
    answer = rights(server.url(OWNER), "grant")
    execute(server, "ALTER SCHEMA public OWNER TO pg_database_owner")
    assert answer.returncode == 1
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in answer.stdout
    assert rights(server.url(OWNER), "grant").returncode == 0, "as the schema's owner it can take the right itself"


def test_logins_are_made_and_act_as_their_role_after_a_rotation_too(server: Server) -> None:
    admin = {"CONNECTION_ADMIN": server.url("postgres", "postgres")}
    execute(server, f"ALTER ROLE {READER} NOLOGIN")
    wanted = logins(server, reader="airflow_reader_a")
    wanted["READER"] = wanted["READER"].replace("airflow_reader_a@", "airflow_reader_a:fresh@")
    for _ in range(2):
        answer = rights(server.url(OWNER), "make", "grant", "check", **wanted, **admin)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "airflow_reader_a logs in and acts as airflow_reader" in answer.stdout
    assert "fresh" not in answer.stdout + answer.stderr
    with server.engine().connect() as connection:
        query = "SELECT rolname, left(rolpassword, 5), rolcanlogin FROM pg_authid WHERE rolname LIKE 'airflow_reader%'"
        found = {name: (kind, may) for name, kind, may in connection.execute(sa.text(query))}
    assert found == {"airflow_reader": (None, False), "airflow_reader_a": ("SCRAM", True)}
    execute(server, f"ALTER ROLE {READER} LOGIN", "DROP ROLE airflow_reader_a")


@pytest.mark.parametrize(("user", "named"), [(OWNER, "may act as airflow"), ("stranger", "does not work")])
def test_a_login_that_is_not_that_of_the_role_is_named_with_its_secret(server: Server, user: str, named: str) -> None:
    answer = rights(server.url(OWNER), "check", **logins(server, reader=user))
    assert answer.returncode == 1
    assert named in answer.stdout
    assert "airflow-metadata-reader" in answer.stdout


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("GRANT pg_read_all_data TO {0}", "member of pg_read_all_data"),
        ("GRANT airflow_dag_code TO {0}", "member of airflow_dag_code"),
        ("ALTER ROLE {0} CREATEROLE", "rolcreaterole"),
        ("ALTER ROLE {0} BYPASSRLS", "rolbypassrls"),
    ],
)
def test_a_login_that_may_more_than_its_role_is_refused(server: Server, change: str, named: str) -> None:
    """SET ROLE NONE leads back to it."""
    login = "airflow_reader_b"
    execute(server, f"CREATE ROLE {login} LOGIN IN ROLE {READER}", f"ALTER ROLE {login} SET role TO {READER}")
    try:
        before = rights(server.url(OWNER), "check", **logins(server, reader=login))
        execute(server, change.format(login))
        answer = rights(server.url(OWNER), "check", **logins(server, reader=login))
    finally:
        execute(server, f"DROP ROLE {login}")
    assert before.returncode == 0, before.stdout
    assert answer.returncode == 1, answer.stdout
    assert named in answer.stdout
    assert f"{login} of Secret airflow-metadata-reader" in answer.stdout


@pytest.mark.parametrize("user", [OWNER, "postgres", "another_super", "another_owner", READER])
def test_no_login_is_made_of_somebody_who_may_more(server: Server, user: str) -> None:
    """The owner would act as a role that may not migrate, and could not be told from it."""
    execute(server, "CREATE ROLE another_super SUPERUSER", f"CREATE ROLE another_owner IN ROLE {OWNER}")
    state = "SELECT rolname, rolconfig, a.rolpassword FROM pg_roles JOIN pg_authid a USING (rolname) ORDER BY 1"
    members = "SELECT roleid, member FROM pg_auth_members ORDER BY 1, 2"

    def found() -> list[list[tuple[object, ...]]]:
        with server.engine().connect() as connection:
            return [[tuple(row) for row in connection.execute(sa.text(query))] for query in (state, members)]

    try:
        before = found()
        wanted = logins(server, reader="airflow_reader_c", dag_code=user)
        answer = rights(server.url(OWNER), "make", CONNECTION_ADMIN=server.url("postgres", "postgres"), **wanted)
        after = found()
    finally:
        execute(server, "DROP ROLE another_super", "DROP ROLE another_owner", "DROP ROLE IF EXISTS airflow_reader_c")
    assert answer.returncode == 1, answer.stdout
    assert f"login {user} of Secret airflow-metadata-dag_code" in answer.stdout
    assert after == before
