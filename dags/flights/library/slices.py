"""What a tenant gets: the rows of one airport of departure on one day, as a file."""

from airflow.sdk.exceptions import AirflowSkipException

from flights.library.tables import DAILY
from shared.loading.staging import storage, write_parquet
from shared.loading.tables import PARTITION_COLUMN
from shared.loading.warehouse import query, warehouse_hook


def write_slice(table: str, origin: str, day: str) -> int:
    """Write the rows of one origin and day to `tenants/<origin>/<table>/<day>.parquet`, in place of what is there.

    Returns:
        Number of rows.

    Raises:
        AirflowSkipException: There are none, such as the weather of 31 December.
    """
    import pyarrow as pa

    found = next(item for item in DAILY if item.name == table)
    rows = query(
        warehouse_hook(),
        f"SELECT {', '.join(found.header)} FROM {table} WHERE {PARTITION_COLUMN} = ? AND origin = ? "  # noqa: S608
        f"ORDER BY {', '.join(found.key)}",
        [day, origin],
    )
    if not rows:
        raise AirflowSkipException(f"{table} has no rows of {origin} on {day}.")
    write_parquet(pa.Table.from_pylist(rows), storage("tenants", origin, table, f"{day}.parquet"))
    return len(rows)
