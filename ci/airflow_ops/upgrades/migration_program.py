"""Migrate a metadata database to the schema of this image while an older Airflow works on it. Runs in a pod.

    python -c PROGRAM SETTINGS

SETTINGS is JSON: `defaults` (lists of table, column and default value), `tries`, `lock_seconds`, `former` (the version
of Airflow that works on the database), `database` (the name of another one than that of CONNECTION, or null), and
`rights` (database_rights.py of charts/platform, the program that gives the roles beside the owner their rights).
Environment: CONNECTION, WORK (a folder for `migrated.json`), and what `airflow db migrate` needs. The last line is
`result: JSON`, or `problem: ...` with exit code 1.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import sqlalchemy as sa

REVISIONS = {"alembic_version": "airflow.migrations", "alembic_version_fab": "airflow.providers.fab.migrations"}
"""Tables with a schema's revision, and the package whose newest migration it has to be."""
LOOK_SECONDS = 0.2
"""Between two looks whether a column is there that needs a default; without it the older Airflow cannot insert."""
WAIT_SECONDS = 5
"""Between two tries: whoever holds the lock may be done."""
RIGHTS_TRIES = 5
BRIDGE_SECONDS = 120
"""For the defaults after the migration, if somebody reads such a table for long."""
LOCK_ERRORS = ("LockNotAvailable", "DeadlockDetected")
"""psycopg2's names of the errors after which another try may succeed; their texts are translated."""
ERROR_LINE = re.compile(r"^(\w+\.)*\w*(Error|Exception|NotAvailable|Detected)\b")
"""A line that names an error. The last line of SQLAlchemy's message is an address of its documentation."""
COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable = 'YES', column_default IS NOT NULL OR is_identity = 'YES'
FROM information_schema.columns WHERE table_schema = current_schema()
"""
Columns = dict[str, dict[str, tuple[str, bool, bool]]]
"""Type, whether it may be NULL, and whether it has a default, by table and column."""


class ProblemError(Exception):
    """Why the database cannot be migrated, in words for the user."""


def engine(url: sa.URL) -> sa.Engine:
    """An engine that keeps no connection."""
    return sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 20})


def columns(database: sa.Engine) -> Columns:
    """The columns of every table."""
    found: Columns = {}
    with database.connect() as connection:
        for table, column, kind, nullable, has_default in connection.execute(sa.text(COLUMNS)):
            found.setdefault(table, {})[column] = (kind, nullable, has_default)
    return found


def bridge(database: sa.Engine, defaults: list[list[str]]) -> list[str]:
    """Give columns the defaults that an older Airflow needs; gives those that have it now.

    A lock that cannot be had at once is left for the next time: waiting for it would hold up every query behind it.
    """
    there = columns(database)
    done = []
    for table, column, value in defaults:
        _, nullable, has_default = there.get(table, {}).get(column, ("", True, False))
        if has_default:
            done.append(f"{table}.{column}")
        elif not nullable:
            try:
                with database.begin() as connection:
                    connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
                    connection.execute(sa.text(f'ALTER TABLE "{table}" ALTER "{column}" SET DEFAULT {value}'))
            except sa.exc.DBAPIError:
                continue
            done.append(f"{table}.{column}")
    return done


def migrate(database: sa.Engine, settings: dict[str, Any]) -> int:
    """Run `airflow db migrate`, again and again while somebody else holds a lock; gives the number of tries.

    Raises:
        ProblemError: It fails for another reason, or no try gets its locks.
    """
    # A statement that waits for a lock holds up all queries that come after it, so it must not wait long. It is in the
    # address and not in PGOPTIONS, which libpq ignores where the address has options.
    given = database.url.query.get("options", "")
    options = f"{given} -c lock_timeout={settings['lock_seconds']}s".strip()
    url = database.url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    env = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    for number in range(1, settings["tries"] + 1):
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(["airflow", "db", "migrate"], env=env, stdout=output, stderr=subprocess.STDOUT)
            while process.poll() is None:
                bridge(database, settings["defaults"])
                time.sleep(LOOK_SECONDS)
            output.seek(0)
            text = output.read()
        print(text, flush=True)
        if process.returncode == 0:
            return number
        if not any(error in text for error in LOCK_ERRORS):
            raise ProblemError(f"`airflow db migrate` failed: {reason(text)}")
        print(f"try {number} did not get its locks", flush=True)
        time.sleep(WAIT_SECONDS)
    raise ProblemError(
        f"`airflow db migrate` did not get its locks in {settings['tries']} tries: somebody holds a transaction open"
    )


def reason(text: str) -> str:
    """The line of a program's output that says why it has failed."""
    lines = text.strip().splitlines() or ["it printed nothing"]
    return next((line for line in reversed(lines) if ERROR_LINE.match(line)), lines[-1])


def bridge_all(database: sa.Engine, defaults: list[list[str]]) -> list[str]:
    """Give every column its default, however long somebody reads its table; gives those that have one.

    Raises:
        ProblemError: One cannot be given: the older Airflow could not insert.
    """
    end = time.monotonic() + BRIDGE_SECONDS
    while True:
        done = bridge(database, defaults)
        there = columns(database)
        kinds = {f"{t}.{c}": there[t][c] for t, c, _ in defaults if c in there.get(t, {})}
        missing = [name for name, (_, nullable, has_default) in kinds.items() if not nullable and not has_default]
        if not missing:
            return done
        if time.monotonic() > end:
            raise ProblemError(f"{', '.join(missing)} can be given no default: somebody holds a transaction open")
        time.sleep(LOOK_SECONDS)


def unmigrated(database: sa.Engine) -> list[str]:
    """Tables whose revision is not this image's: `airflow db migrate` succeeds where it could not import something."""
    from alembic.script import ScriptDirectory

    left = []
    with database.connect() as connection:
        for table, package in REVISIONS.items():
            if sa.inspect(connection).has_table(table):
                found = connection.scalar(sa.text(f"SELECT version_num FROM {table}"))  # noqa: S608 our own names
                head = ScriptDirectory(str(files(package))).get_current_head()
                if found != head:
                    left.append(f"{table} is {found} and not {head}")
    return left


def incompatible(database: sa.Engine, before: Columns, after: Columns) -> list[str]:
    """What an Airflow that was made for the former schema cannot do on the present one, a line for each column."""
    lines = []
    for table, former in before.items():
        present = after.get(table)
        if present is None:
            lines.append(f"table {table} is gone")
            continue
        for column, (kind, nullable, _) in former.items():
            if column not in present:
                lines.append(f"column {table}.{column} is gone")
            elif nullable and not present[column][1] and not present[column][2]:
                lines.append(f"column {table}.{column} must have a value now")
            elif present[column][0] != kind and has_rows(database, table):
                lines.append(f"column {table}.{column} is {present[column][0]} and no longer {kind}")
        lines += [
            f"column {table}.{column} is new and needs a value"
            for column, (_, nullable, has_default) in present.items()
            if column not in former and not nullable and not has_default
        ]
    return lines


def has_rows(database: sa.Engine, table: str) -> bool:
    """Whether a table has a row."""
    with database.connect() as connection:
        return bool(connection.scalar(sa.text(f'SELECT EXISTS (SELECT 1 FROM "{table}")')))  # noqa: S608 a name of the catalogue


def row_counts(database: sa.Engine, tables: Iterable[str]) -> dict[str, int]:
    """How many rows tables have."""
    with database.connect() as connection:
        count = 'SELECT count(*) FROM "{}"'
        return {table: int(connection.scalar(sa.text(count.format(table))) or 0) for table in tables}


def lost_rows(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Tables that have fewer rows than before, a line each."""
    return [
        f"table {table} has {after[table]} rows instead of {count}"
        for table, count in before.items()
        if after.get(table, count) < count
    ]


def give_rights(url: sa.URL, program: str) -> None:
    """Give the roles beside the owner their rights, which the migration's new tables and columns need.

    Raises:
        ProblemError: A role is missing, or may do too much, or somebody holds a lock in every try.
    """
    env = {**os.environ, "CONNECTION": url.render_as_string(hide_password=False)}
    for left in reversed(range(RIGHTS_TRIES)):
        done = subprocess.run([sys.executable, "-", "grant"], input=program, env=env, capture_output=True, text=True)
        print(done.stdout, done.stderr, flush=True)
        if done.returncode == 0:
            return
        if "lock timeout" not in done.stdout or not left:
            raise ProblemError(reason(done.stdout + done.stderr).removeprefix("problem: "))
        time.sleep(WAIT_SECONDS)


def main(settings: dict[str, Any]) -> dict[str, Any]:
    """Migrate, and compare the schema with the former one."""
    from airflow.configuration import conf

    conf.getimport("core", "auth_manager")
    url = sa.make_url(os.environ["CONNECTION"])
    database = engine(url.set(database=settings["database"]) if settings["database"] else url)
    before = columns(database)
    # Only in a copy: in a large database that works it takes long.
    rows = row_counts(database, before) if settings["database"] else {}
    with database.begin() as connection:
        # For whoever finds a schema that is newer than an image: this version was seen to work on it. Dumps contain it.
        # It comes first, because a migration that is cut off leaves a schema in between.
        connection.execute(sa.text(f"COMMENT ON TABLE alembic_version IS 'Airflow {settings['former']} works on it'"))
    began = time.monotonic()
    tries = migrate(database, settings)
    seconds = time.monotonic() - began
    if left := unmigrated(database):
        raise ProblemError(f"after `airflow db migrate` {'; '.join(left)}")
    bridged = bridge_all(database, settings["defaults"])
    give_rights(database.url, settings["rights"])
    with database.connect() as connection:
        size = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
    found = {
        "seconds": round(seconds, 1),
        "tries": tries,
        "bridged": bridged,
        "bytes": size,
        "incompatible": incompatible(database, before, columns(database)),
        "lost": lost_rows(rows, row_counts(database, rows.keys() & columns(database).keys())),
    }
    (Path(os.environ["WORK"]) / "migrated.json").write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    try:
        print(f"result: {json.dumps(main(json.loads(sys.argv[1])))}")
    except (ProblemError, ImportError, sa.exc.SQLAlchemyError) as error:
        print(f"problem: {' '.join(str(error.__cause__ or error).split())}")
        sys.exit(1)
