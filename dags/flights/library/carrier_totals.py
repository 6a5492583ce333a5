"""The table `carrier_days`: figures by day and carrier, kept up with what is loaded."""

from typing import Any

from airflow.providers.common.sql.hooks.sql import DbApiHook

from flights.library.report import DELAYED_MINUTES
from flights.library.tables import TABLES
from shared.loading.incremental import Taken, take_changes
from shared.loading.warehouse import create, create_tables, execute

TABLE = """CREATE TABLE IF NOT EXISTS carrier_days (
    local_date DATE NOT NULL, carrier TEXT NOT NULL, flights INTEGER NOT NULL, cancelled INTEGER NOT NULL,
    delayed INTEGER NOT NULL, PRIMARY KEY (local_date, carrier))"""
FIGURES = f"""INSERT INTO carrier_days (local_date, carrier, flights, cancelled, delayed)
    SELECT local_date, carrier, COUNT(*), SUM(CASE WHEN dep_time IS NULL THEN 1 ELSE 0 END),
        SUM(CASE WHEN dep_delay >= {DELAYED_MINUTES} THEN 1 ELSE 0 END)
    FROM flights WHERE local_date = ? GROUP BY local_date, carrier"""  # noqa: S608  a number of ours


def update_carrier_days(hook: DbApiHook, since: str | None = None) -> Taken:
    """Compute again every day that was loaded since the last time, however old the day is.

    The ledger decides what is new, not the day: a day that is loaded again, with rows that came late, has changed.

    Args:
        hook: The warehouse.
        since: As in `shared.loading.incremental.take_changes`.
    """
    create_tables(hook, TABLES)
    create(hook, [TABLE])

    def work(cursor: Any, low: str) -> int:
        changed = "SELECT partition_key FROM load_ledger WHERE table_name = 'flights' AND loaded_at >= ? ORDER BY 1"
        execute(hook, cursor, changed, [low])
        days = [row[0] for row in cursor.fetchall()]
        for day in days:
            execute(hook, cursor, "DELETE FROM carrier_days WHERE local_date = ?", [day])
            execute(hook, cursor, FIGURES, [day])
        return len(days)

    newest = "SELECT MAX(loaded_at) FROM load_ledger WHERE table_name = 'flights'"
    return take_changes(hook, "carrier_days", newest, work, since)
