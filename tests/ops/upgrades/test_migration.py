"""A migration beside a working Airflow, on a real PostgreSQL with Airflow's tables.

Only the program `airflow` is replaced; tests/e2e/test_upgrade_migration.py runs the real one.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from airflow import __version__ as airflow_version
from alembic.script import ScriptDirectory

from airflow_ops.colours.record import Record, Side
from airflow_ops.manifests.objects import Colour
from airflow_ops.paths import ROOT
from airflow_ops.upgrades import bridges, migration, migration_program, rehearsal_program
from support.metadata_database import Server, insert, running_server

SCHEMA_STATE = ROOT / "charts/platform/files/scripts/schema_state.py"
MIGRATE = ROOT / "charts/platform/files/scripts/migrate.sh"
RUN = {"logical_date": None, "data_interval_start": None, "data_interval_end": None}
COLUMN = [["pet", "colour", "'red'"]]
SHOW = """#!{python}
import os, sqlalchemy as sa
with sa.create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).connect() as connection:
    for name in ("lock_timeout", "search_path"):
        print(name, connection.scalar(sa.text("SHOW " + name)))
"""
FAKE = """#!/usr/bin/env bash
n=$(cat "$0.count" 2>/dev/null || echo 0); echo $((n + 1)) >"$0.count"
if [ "$n" -lt {failures} ]; then echo "{message}"; exit 1; fi
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def pets(server: Server) -> sa.Engine:
    """A database with one table, whose column `colour` a newer version has added."""
    with server.engine(database="postgres").connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS pets"))
        connection.execute(sa.text("CREATE DATABASE pets"))
    engine = server.engine(database="pets")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE pet (name text, colour text NOT NULL)"))
    return engine


def adopt(pets: sa.Engine) -> None:
    """What the older version does, which does not know the colour."""
    with pets.begin() as connection:
        connection.execute(sa.text("INSERT INTO pet (name) VALUES ('Rex')"))


def test_the_older_version_can_insert_once_the_bridge_is_there(pets: sa.Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        adopt(pets)
    assert migration_program.bridge(pets, COLUMN) == ["pet.colour"]
    adopt(pets)
    assert migration_program.bridge(pets, COLUMN) == ["pet.colour"], "again"


@pytest.mark.parametrize("column", [["pet", "name", "'x'"], ["pet", "none", "'x'"], ["none", "x", "'x'"]])
def test_what_needs_no_bridge_gets_none(pets: sa.Engine, column: list[str]) -> None:
    before = migration_program.columns(pets)
    assert migration_program.bridge(pets, [column]) == []
    assert migration_program.columns(pets) == before


def test_a_bridge_does_not_queue_behind_a_lock(pets: sa.Engine) -> None:
    with pets.begin() as somebody:
        somebody.execute(sa.text("LOCK TABLE pet IN ROW EXCLUSIVE MODE"))
        assert migration_program.bridge(pets, COLUMN) == []
    assert migration_program.bridge(pets, COLUMN) == ["pet.colour"]


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A program `airflow` that fails some times with a message, then succeeds."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(migration_program, "WAIT_SECONDS", 0)

    def install(failures: int, message: str) -> None:
        path = tmp_path / "airflow"
        path.write_text(FAKE.format(failures=failures, message=message))
        path.chmod(0o755)

    return install


SETTINGS = {"defaults": COLUMN, "tries": 3, "lock_seconds": 1}


def test_a_migration_is_tried_again_while_somebody_holds_a_lock(airflow: Any, pets: sa.Engine) -> None:
    airflow(2, "psycopg2.errors.LockNotAvailable: canceling statement due to lock timeout")
    assert migration_program.migrate(pets, SETTINGS) == 3
    adopt(pets)


def test_a_lock_that_is_never_given_back_ends_it(airflow: Any, pets: sa.Engine) -> None:
    airflow(3, "psycopg2.errors.DeadlockDetected: deadlock detected")
    with pytest.raises(migration_program.ProblemError, match="did not get its locks in 3 tries"):
        migration_program.migrate(pets, SETTINGS)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no space left on device", "failed: no space left"),
        (
            "sqlalchemy.exc.OperationalError: (psycopg2.errors.DiskFull) no space left\n[SQL: CREATE INDEX x]\n"
            "(Background on this error at: https://sqlalche.me/e/21/e3q8)",
            "failed: sqlalchemy.exc.OperationalError: .psycopg2.errors.DiskFull. no space left",
        ),
    ],
)
def test_another_error_of_the_migration_is_told_at_once(airflow: Any, pets: sa.Engine, message: str, told: str) -> None:
    airflow(1, message)
    with pytest.raises(migration_program.ProblemError, match=told):
        migration_program.migrate(pets, SETTINGS)


@pytest.mark.parametrize("schema", [None, "pg_temp"])
def test_no_statement_of_a_migration_waits_long(
    airflow: Any, tmp_path: Path, server: Server, pets: sa.Engine, schema: str | None, capsys: Any
) -> None:
    """Also where the address sets options of its own."""
    airflow(0, "")
    (tmp_path / "airflow").write_text(SHOW.format(python=sys.executable))
    url = pets.url.update_query_dict({"options": f"-c search_path={schema}"} if schema else {})
    migration_program.migrate(sa.create_engine(url, poolclass=sa.NullPool), SETTINGS)
    said = capsys.readouterr().out
    assert "lock_timeout 1s" in said
    assert not schema or f"search_path {schema}" in said


def test_a_default_that_a_long_query_keeps_away_is_given_afterwards(
    pets: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pets.begin() as somebody:
        somebody.execute(sa.text("LOCK TABLE pet IN ACCESS SHARE MODE"))
        end = threading.Timer(2, somebody.rollback)
        end.start()
        assert migration_program.bridge_all(pets, COLUMN) == ["pet.colour"]
        end.join()
    adopt(pets)
    monkeypatch.setattr(migration_program, "BRIDGE_SECONDS", 0)
    with pets.begin() as somebody:
        somebody.execute(sa.text("ALTER TABLE pet ALTER colour DROP DEFAULT"))
    with pets.begin() as somebody:
        somebody.execute(sa.text("LOCK TABLE pet IN ACCESS SHARE MODE"))
        with pytest.raises(migration_program.ProblemError, match="pet.colour can be given no default"):
            migration_program.bridge_all(pets, COLUMN)


def test_the_way_back_gives_the_default_again(pets: sa.Engine) -> None:
    made = bridges.Bridge(bridges.Version("9"), {("pet", "colour"): "'red'", ("none", "x"): "1"}, {}, ())
    for _ in range(2):
        for statement in bridges.default_statements([made]):
            with pets.begin() as connection:
                connection.execute(sa.text(statement))
    adopt(pets)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("ALTER TABLE pet ADD food text NOT NULL DEFAULT 'x'", None),
        ("ALTER TABLE pet ADD food text", None),
        ("CREATE TABLE owner (name text NOT NULL)", None),
        ("ALTER TABLE pet ALTER colour TYPE varchar(9)", "column pet.colour is character varying and no longer text"),
        ("ALTER TABLE pet DROP colour", "column pet.colour is gone"),
        ("ALTER TABLE pet ALTER name SET NOT NULL", "column pet.name must have a value now"),
        ("DROP TABLE pet", "table pet is gone"),
        ("ALTER TABLE pet ADD food text NOT NULL DEFAULT 'x'; ALTER TABLE pet ALTER food DROP DEFAULT", "is new and"),
    ],
)
def test_what_an_older_version_cannot_do_is_found(pets: sa.Engine, change: str, complaint: str | None) -> None:
    with pets.begin() as connection:
        connection.execute(sa.text("INSERT INTO pet VALUES ('Rex', 'red')"))
        before = migration_program.columns(pets)
        connection.execute(sa.text(change))
    found = migration_program.incompatible(pets, before, migration_program.columns(pets))
    assert len(found) == (complaint is not None)
    assert not complaint or complaint in found[0]


def test_another_type_of_an_empty_table_hinders_nobody(pets: sa.Engine) -> None:
    before = migration_program.columns(pets)
    with pets.begin() as connection:
        connection.execute(sa.text("ALTER TABLE pet ALTER colour TYPE varchar(9)"))
    assert migration_program.incompatible(pets, before, migration_program.columns(pets)) == []


def test_rows_that_a_migration_loses_are_found(pets: sa.Engine) -> None:
    with pets.begin() as connection:
        connection.execute(sa.text("INSERT INTO pet VALUES ('Rex', 'red'), ('Tom', 'blue')"))
    before = migration_program.row_counts(pets, ["pet"])
    assert migration_program.lost_rows(before, before) == []
    with pets.begin() as connection:
        connection.execute(sa.text("DELETE FROM pet WHERE name = 'Tom'"))
    after = migration_program.row_counts(pets, ["pet"])
    assert migration_program.lost_rows(before, after) == ["table pet has 1 rows instead of 2"]
    assert migration_program.lost_rows(before, {}) == [], "a table that is gone is told elsewhere"


def test_only_an_older_version_needs_a_bridge() -> None:
    assert bridges.between("3.2.2", "3.3.2")
    for older, newer in (("3.3.0", "3.3.2"), ("3.3.2", "3.3.2"), ("3.3.2", "3.2.2"), ("3.1.8", "3.2.2")):
        assert bridges.between(older, newer) == []
    assert bridges.rewrite_statements([]) == []


def test_types_of_runs_are_rewritten_while_the_newer_version_still_ends(server: Server) -> None:
    def run_type(run: str, written: str) -> str:
        with server.engine().begin() as connection:
            insert(connection, "dag_run", dag_id="d", run_id=run, run_type=written, **RUN)
        return read(run)

    def read(run: str) -> str:
        with server.engine().connect() as connection:
            return str(connection.scalar(sa.text("SELECT run_type FROM dag_run WHERE run_id = :run"), {"run": run}))

    def execute(statements: list[str]) -> None:
        for statement in statements:
            with server.engine().begin() as connection:
                connection.execute(sa.text(statement))

    assert run_type("1", "operator_triggered") == "operator_triggered"
    statements = bridges.rewrite_statements(bridges.between("3.2.2", "3.3.2"))
    execute(statements)
    execute(statements)
    assert read("1") == "manual"
    assert run_type("2", "operator_triggered") == "manual"
    assert run_type("3", "scheduled") == "scheduled"
    execute(bridges.REMOVE_TRIGGER)
    execute(bridges.REMOVE_TRIGGER)
    assert run_type("4", "operator_triggered") == "operator_triggered"


def test_a_copy_has_nothing_to_run_and_no_secret(server: Server) -> None:
    with server.engine().begin() as connection:
        insert(connection, "dag_bundle", name="b")
        insert(connection, "dag", dag_id="e", is_paused=False, bundle_name="b")
        insert(connection, "dag_run", dag_id="e", run_id="open", state="running", run_type="manual", **RUN)
        insert(connection, "dag_run", dag_id="e", run_id="done", state="success", run_type="manual", **RUN)
        insert(connection, "trigger", id=7, classpath="x", created_date=datetime(2026, 1, 1, tzinfo=UTC), kwargs="")
        insert(connection, "connection", conn_id="shop", conn_type="http", password="hidden", extra="{}")  # noqa: S106 nobody's
        insert(connection, "variable", key="token", val="swordfish")
        insert(connection, "job", job_type="SchedulerJob", state="running")
    with server.engine().begin() as connection:
        rehearsal_program.sanitise(connection)
        rehearsal_program.sanitise(connection)

        def rows(query: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.execute(sa.text(query))]

        assert rows("SELECT is_paused FROM dag WHERE dag_id = 'e'") == [(True,)]
        assert rows("SELECT run_id, state FROM dag_run WHERE dag_id = 'e' ORDER BY run_id") == [
            ("done", "success"),
            ("open", "failed"),
        ]
        assert rows("SELECT * FROM trigger") == rows("SELECT * FROM job") == []
        assert rows("SELECT password, extra FROM connection") == [(None, None)]
        assert rows("SELECT val FROM variable") == [("",)]


HEAD = ScriptDirectory(str(files("airflow.migrations"))).get_current_head()
OURS, OTHERS = f"Airflow {airflow_version} works on it", "Airflow 3.2.2 works on it"


@pytest.mark.parametrize(
    ("revision", "comment", "alive_seconds_ago", "state"),
    [
        (None, "", None, "free"),
        ("1d6611b6ab7c", OURS, None, "free"),
        ("1d6611b6ab7c", "", 5, "in-use"),
        ("1d6611b6ab7c", "", 60, "free"),
        (HEAD, "", 5, "free"),
        ("ffffffffffff", OURS, 5, "newer"),
        ("ffffffffffff", OTHERS, None, "free"),
        ("ffffffffffff", OTHERS, 5, "in-use"),
        ("ffffffffffff", "", None, "free"),
    ],
)
def test_what_a_migration_may_do(
    server: Server, revision: str | None, comment: str, alive_seconds_ago: int | None, state: str
) -> None:
    with server.engine().begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
        connection.execute(sa.text("DELETE FROM job"))
        if revision:
            connection.execute(sa.text("CREATE TABLE alembic_version (version_num text)"))
            connection.execute(sa.text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
            connection.execute(sa.text(f"COMMENT ON TABLE alembic_version IS '{comment}'"))
        if alive_seconds_ago is not None:
            heartbeat = datetime.now(UTC) - timedelta(seconds=alive_seconds_ago)
            insert(connection, "job", job_type="SchedulerJob", state="running", latest_heartbeat=heartbeat)
    env = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": server.url()}
    said = subprocess.run([sys.executable, SCHEMA_STATE], env=env, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == state


@pytest.mark.parametrize(
    ("state", "left_to_upgrade", "code", "migrates"),
    [
        ("free", "false", 0, True),
        ("newer", "false", 0, False),
        ("in-use", "false", 1, False),
        ("in-use", "true", 0, False),
    ],
)
def test_the_migration_job_does_not_migrate_beside_another_version(
    tmp_path: Path, state: str, left_to_upgrade: str, code: int, migrates: bool
) -> None:
    """The real script; `airflow` and `python` are stubs that write down how they were called."""
    stub = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >>"$CALLS"\n[[ $* != *schema_state* ]] || echo "$STATE"\n'
    for name in ("airflow", "python"):
        (tmp_path / name).write_text(stub)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    script = MIGRATE.read_text().replace("/etc/migration/", f"{tmp_path}/")
    for name in ("pools.json", "users.json"):
        (tmp_path / name).write_text("")
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "STATE": state,
        "DATABASE_TIMEOUT": "5",
        "LEAVE_TO_UPGRADE": left_to_upgrade,
    }
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert ("airflow db migrate\n" in calls.read_text()) is migrates
    for step in ("pools.py", "users.py"):
        assert (step in calls.read_text()) is (state != "in-use"), "it needs this image's schema"
    lines = calls.read_text().splitlines()
    rights = [line.rpartition("/")[2] for line in lines if "database_rights.py" in line]
    assert rights == ["database_rights.py make", *([] if code else ["database_rights.py grant check"])]
    if migrates:
        given = lines.index(f"python {tmp_path}/database_rights.py grant check")
        assert lines.index("airflow db migrate") < given, "it may have made a table"
    if code:
        assert "problem: an Airflow works on this database with another schema" in done.stderr


def test_after_a_migration_the_roles_have_their_rights(server: Server, pets: sa.Engine) -> None:
    """In the copy of a rehearsal too: that is another database than the one of the address."""
    program = migration.RIGHTS.read_text()
    with server.engine(database="postgres").begin() as connection:
        connection.execute(sa.text("CREATE ROLE postgres_reader; CREATE ROLE postgres_dag_code"))
    migration_program.give_rights(pets.url, program)
    with pets.begin() as connection:
        connection.execute(sa.text("SET LOCAL ROLE postgres_reader; SELECT * FROM pet"))
        connection.execute(sa.text("RESET ROLE; DROP OWNED BY postgres_dag_code; DROP ROLE postgres_dag_code"))
    with pytest.raises(migration_program.ProblemError, match="has no role postgres_dag_code: an administrator"):
        migration_program.give_rights(pets.url, program)
    url = pets.url.render_as_string(hide_password=False)
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
    }
    # Without a migration it runs in a pod of the API server.
    refused = subprocess.run(migration.GIVE_RIGHTS, env=env, input=program, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "has no role postgres_dag_code" in refused.stderr, "kubectl tells this"
    with server.engine(database="postgres").begin() as connection:
        connection.execute(sa.text("CREATE ROLE postgres_dag_code"))
    subprocess.run(migration.GIVE_RIGHTS, env=env, input=program, text=True, check=True)


def test_the_program_reaches_the_pod_as_it_is() -> None:
    """In a pod's command Kubernetes makes $$ one $, and $(NAME) the variable's content."""
    blue = Side(colour=Colour.BLUE, version="3.2.2", image="airflow:1", replicas={})
    green = Side(colour=Colour.GREEN, version="3.3.2", image="airflow:2", replicas={})
    upgrade = Record(id="one", source=blue, target=green, digest="")
    words = migration.command(upgrade)
    assert json.loads(words[-1])["rights"] == migration.RIGHTS.read_text()
    assert not [word for word in words if "$$" in word or "$(" in word]
    assert max(map(len, words)) < 100_000, "Linux takes 128 KiB"


def test_the_rehearsals_dag_can_be_compiled() -> None:
    compile(rehearsal_program.DAG_FILE, "dag", "exec")
    assert len(set(rehearsal_program.READ)) == len(rehearsal_program.READ)
