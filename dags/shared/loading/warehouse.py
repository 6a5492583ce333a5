"""Loads into the warehouse, which is the connection `warehouse`: SQLite on one machine, Postgres elsewhere, one SQL.

A partition is replaced in one transaction: its row in `load_ledger` is written first, then its rows are deleted and
inserted. Two loads of one partition both lock that ledger row (on SQLite the database, at the start of the
transaction), so the second waits for the first and then replaces it whole. A process that dies leaves what was there
before. Where a load says when its source was read, an older reading does not replace a newer one, however late it ends.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import BaseHook

from shared.loading.quality import Result, Value
from shared.loading.tables import PARTITION_COLUMN, Kind, Table

log = logging.getLogger(__name__)

CONNECTION = "warehouse"
WHOLE = "all"
"""The partition of a table that is not split into days."""
BUSY_TIMEOUT_MS = 60_000
"""How long a load waits on SQLite for others: enough for dozens of them, each well under a second."""
TRANSACTION_LIMIT = timedelta(minutes=10)
"""How long a transaction may take: whoever takes changes over looks back as far (`shared.loading.incremental`)."""
ROWS_A_STATEMENT = 500
"""Times 20 columns well below the parameters that one statement takes (SQLite 32,766; Postgres 65,535)."""

SQL_TYPES: dict[Kind, str] = {
    "integer": "INTEGER",
    "number": "DOUBLE PRECISION",
    "text": "TEXT",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}
LEDGER = """CREATE TABLE IF NOT EXISTS load_ledger (
    table_name TEXT NOT NULL, partition_key TEXT NOT NULL, rows_loaded INTEGER NOT NULL, rows_rejected INTEGER NOT NULL,
    rejected_uri TEXT, fingerprint TEXT, run_id TEXT NOT NULL, loaded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (table_name, partition_key))"""
QUALITY = """CREATE TABLE IF NOT EXISTS quality_results (
    run_id TEXT NOT NULL, table_name TEXT NOT NULL, partition_key TEXT NOT NULL, check_name TEXT NOT NULL,
    severity TEXT NOT NULL, passed INTEGER NOT NULL, observed DOUBLE PRECISION NOT NULL,
    threshold DOUBLE PRECISION NOT NULL, detail TEXT NOT NULL, checked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (run_id, table_name, partition_key, check_name))"""
READINGS = """CREATE TABLE IF NOT EXISTS source_readings (
    table_name TEXT NOT NULL, partition_key TEXT NOT NULL, as_of TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (table_name, partition_key))"""
"""A table of its own: a column that is added to a ledger which exists would need a migration."""

STATEMENT_LIMIT = """SELECT set_config('statement_timeout', LEAST(NULLIF(setting::bigint, 0), ?)::text, true)
    FROM pg_settings WHERE name = 'statement_timeout'"""
"""In milliseconds, to the end of the transaction; a shorter one that the database has stays. 0 is no limit."""

LEDGER_COLUMNS = (
    *("table_name", "partition_key", "rows_loaded", "rows_rejected", "rejected_uri", "fingerprint"),
    *("run_id", "loaded_at"),
)
QUALITY_COLUMNS = (
    *("run_id", "table_name", "partition_key", "check_name", "severity", "passed"),
    *("observed", "threshold", "detail", "checked_at"),
)


@dataclass(frozen=True)
class Load:
    """One partition of one table, to be put in place of what is there.

    Attributes:
        table: The table.
        partition: The partition's key: a day, or `all`.
        rows: All its rows, values in the order of the table's columns.
        rejected: How many rows the gate set aside.
        rejected_uri: Where they are kept; None if there are none.
        fingerprint: Digest of the source's rows. A whole table that has the same one is left as it is; a day is not,
            because loading it again repairs it.
        as_of: When the source was read, with its time zone; None where any load may replace any other.
    """

    table: Table
    partition: str
    rows: Sequence[Sequence[Value]]
    rejected: int = 0
    rejected_uri: str | None = None
    fingerprint: str | None = None
    as_of: datetime | None = None


class TransactionTooLongError(RuntimeError):
    """A transaction took longer than it may; it was rolled back."""


def warehouse_hook() -> DbApiHook:
    """The hook of the connection `warehouse`, of whatever database that is."""
    hook = BaseHook.get_connection(CONNECTION).get_hook()  # type: ignore[no-untyped-call]
    if not isinstance(hook, DbApiHook):
        raise TypeError(f"connection {CONNECTION} is not a SQL database: its hook is {type(hook).__name__}.")
    return hook


@contextmanager
def transaction(hook: DbApiHook, limit: timedelta | None = TRANSACTION_LIMIT) -> Iterator[Any]:
    """A cursor in one transaction that writes: committed at the end, rolled back by an exception.

    On SQLite it takes the write lock at once: one that began as a reader fails, and does not wait, if another writes.

    Args:
        hook: The database.
        limit: How long it may take. Postgres ends a statement that takes longer, waiting for a lock included; many
            short ones are found out at the end. None for one that writes nothing that is stamped with its time.

    Raises:
        TransactionTooLongError: It took longer, and was rolled back.
    """
    with closing(_connect(hook)) as connection, closing(connection.cursor()) as cursor:
        started = monotonic()
        try:
            _begin(hook, cursor, limit)
            yield cursor
            _require_in_time(started, limit)
        except TransactionTooLongError:
            connection.rollback()
            raise
        except Exception:
            connection.rollback()
            _require_in_time(started, limit)
            raise
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


def query(hook: DbApiHook, sql: str, parameters: Sequence[Value] = ()) -> list[dict[str, Any]]:
    """Rows of a SELECT, written with `?` for parameters, as maps by column name."""
    with closing(_connect(hook)) as connection, closing(connection.cursor()) as cursor:
        execute(hook, cursor, sql, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def execute(hook: DbApiHook, cursor: Any, sql: str, parameters: Sequence[Value] = ()) -> None:
    """Run one statement, written with `?` for parameters and with no other question mark or percent sign."""
    cursor.execute(sql.replace("?", hook.placeholder), tuple(parameters))


def create_tables(hook: DbApiHook, tables: Iterable[Table]) -> None:
    """Create the tables that do not exist yet, and those of the ledger and the quality results."""
    create(hook, [LEDGER, QUALITY, READINGS, *map(_definition, tables)])


def create(hook: DbApiHook, statements: Sequence[str]) -> None:
    """Run CREATE statements that say IF NOT EXISTS.

    Two runs may create the first tables at once, and Postgres lets one of them fail in spite of IF NOT EXISTS. A second
    try then finds them in place.
    """
    try:
        _create(hook, statements)
    except Exception as error:
        log.info("Creating the tables once more, after: %s", error)
        _create(hook, statements)


def load(hook: DbApiHook, loads: Sequence[Load], run_id: str) -> dict[str, int]:
    """Replace partitions, all of them in one transaction, or none.

    Left as it is, and said so in the log: a partition of which a newer reading of the source is there, and a whole
    table that did not change. Loads that share partitions must name them in the same order: each waits for the others
    at its first one.

    Returns:
        Rows that the warehouse now holds of each partition that was replaced, by table.

    Raises:
        RuntimeError: The warehouse holds another number of rows than were given to it.
        TransactionTooLongError: It took longer than `TRANSACTION_LIMIT`; nothing is loaded.
    """
    with transaction(hook) as cursor:
        return {item.table.name: _replace(hook, cursor, item, run_id) for item in loads if _is_due(hook, cursor, item)}


def record_results(hook: DbApiHook, table: str, partition: str, results: Sequence[Result], run_id: str) -> None:
    """Keep what the gate found for one partition in one run; a second try of the run replaces the first."""
    now = _now()
    rows = [
        (
            *(run_id, table, partition, result.check, result.severity, int(result.passed)),
            *(float(result.observed), float(result.threshold), result.detail, now),
        )
        for result in results
    ]
    with transaction(hook) as cursor:
        sql = "DELETE FROM quality_results WHERE run_id = ? AND table_name = ? AND partition_key = ?"
        execute(hook, cursor, sql, [run_id, table, partition])
        insert(hook, cursor, "quality_results", QUALITY_COLUMNS, rows)


def insert(hook: DbApiHook, cursor: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
    """Insert rows, many a statement: over a network it is the statements that take the time."""
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        chunk = rows[start : start + ROWS_A_STATEMENT]
        places = ", ".join([f"({', '.join('?' * len(columns))})"] * len(chunk))
        values = [value for row in chunk for value in row]
        execute(hook, cursor, f"INSERT INTO {table} ({', '.join(columns)}) VALUES {places}", values)  # noqa: S608


def _is_due(hook: DbApiHook, cursor: Any, item: Load) -> bool:
    """Whether a load has to be done: it is not of an older reading, and changes something."""
    if not _is_newest(hook, cursor, item):
        log.warning("%s %s: not loaded, a newer reading of its source is", item.table.name, item.partition)
        return False
    if _is_unchanged(hook, cursor, item):
        log.info("%s %s: not loaded, it is as the warehouse has it", item.table.name, item.partition)
        return False
    return True


def _is_newest(hook: DbApiHook, cursor: Any, item: Load) -> bool:
    """Note the reading, unless there is a newer one; its row is a lock, so another load is waited for."""
    if item.as_of is None:
        return True
    as_of = item.as_of.astimezone(UTC).isoformat(timespec="microseconds")  # of one length: SQLite compares the text
    execute(
        hook,
        cursor,
        "INSERT INTO source_readings (table_name, partition_key, as_of) VALUES (?, ?, ?) "
        "ON CONFLICT (table_name, partition_key) DO UPDATE SET as_of = excluded.as_of "
        "WHERE source_readings.as_of <= excluded.as_of",
        [item.table.name, item.partition, as_of],
    )
    return bool(cursor.rowcount == 1)


def _is_unchanged(hook: DbApiHook, cursor: Any, item: Load) -> bool:
    if item.table.daily or item.fingerprint is None:
        return False
    sql = "SELECT 1 FROM load_ledger WHERE table_name = ? AND partition_key = ? AND fingerprint = ?"
    execute(hook, cursor, sql, [item.table.name, item.partition, item.fingerprint])
    return cursor.fetchone() is not None


def _replace(hook: DbApiHook, cursor: Any, item: Load, run_id: str) -> int:
    """Replace one partition; the ledger row is written first, because it is the lock that other loads wait for."""
    name, daily = item.table.name, item.table.daily
    updates = ", ".join(f"{column} = excluded.{column}" for column in LEDGER_COLUMNS[2:])
    entry = (name, item.partition, len(item.rows), item.rejected, item.rejected_uri, item.fingerprint, run_id, _now())
    execute(
        hook,
        cursor,
        f"INSERT INTO load_ledger ({', '.join(LEDGER_COLUMNS)}) VALUES ({', '.join('?' * len(entry))}) "  # noqa: S608
        f"ON CONFLICT (table_name, partition_key) DO UPDATE SET {updates}",
        entry,
    )
    where, parameters = (f" WHERE {PARTITION_COLUMN} = ?", [item.partition]) if daily else ("", [])
    execute(hook, cursor, f"DELETE FROM {name}{where}", parameters)  # noqa: S608  names are those of our tables
    if daily:
        rows: Sequence[Sequence[Value]] = [(item.partition, *row) for row in item.rows]
        insert(hook, cursor, name, (PARTITION_COLUMN, *item.table.header), rows)
    else:
        insert(hook, cursor, name, item.table.header, item.rows)
    execute(hook, cursor, f"SELECT COUNT(*) FROM {name}{where}", parameters)  # noqa: S608
    count = int(cursor.fetchone()[0])
    if count != len(item.rows):
        raise RuntimeError(
            f"{name} {item.partition}: {len(item.rows)} rows given, {count} in the warehouse; rolled back."
        )
    return count


def _create(hook: DbApiHook, statements: Iterable[str]) -> None:
    with transaction(hook) as cursor:
        for statement in statements:
            cursor.execute(statement)


def _definition(table: Table) -> str:
    """The CREATE statement. The partition comes first in the primary key, so deleting a partition uses the index."""
    columns = [
        f"{column.name} {SQL_TYPES[column.kind]}{' NOT NULL' if column.required else ''}" for column in table.columns
    ]
    key = table.key
    if table.daily:
        columns.insert(0, f"{PARTITION_COLUMN} DATE NOT NULL")
        key = (PARTITION_COLUMN, *key)
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(key)}))"


def _connect(hook: DbApiHook) -> Any:
    connection = hook.get_conn()
    if _is_sqlite(hook):
        connection.isolation_level = None  # transactions begin where this module says so
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")  # readers and one writer do not wait for each other
    return connection


def _begin(hook: DbApiHook, cursor: Any, limit: timedelta | None) -> None:
    if _is_sqlite(hook):
        cursor.execute("BEGIN IMMEDIATE")
    elif limit is not None and hook.conn_type == "postgres":
        execute(hook, cursor, STATEMENT_LIMIT, [round(limit.total_seconds() * 1000)])


def _require_in_time(started: float, limit: timedelta | None) -> None:
    if limit is not None and monotonic() - started > limit.total_seconds():
        raise TransactionTooLongError(
            f"the transaction took longer than {limit}: rolled back, because who takes changes over would overlook it. "
            "Load less at once, or raise TRANSACTION_LIMIT in dags/shared/loading/warehouse.py."
        )


def _is_sqlite(hook: DbApiHook) -> bool:
    return str(hook.conn_type) == "sqlite"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
