"""Exports of reference tables of flights, one DAG for each row of the warehouse table `pipeline_configurations`."""

from typing import ClassVar, Literal

from airflow.sdk import DAG, task

from shared.generating.snapshot_dags import Snapshot, read_snapshot, snapshot_dag
from shared.generating.snapshots import Entries, Source, from_database


class Export(Snapshot):
    """A snapshot of one export.

    Attributes:
        kind: `export`.
        table: The table that is written to a file.
    """

    kind: Literal["export"]
    table: Literal["airlines", "airports", "planes"]


def export_dag(dag_file: str) -> DAG:
    """The DAG of one export.

    Args:
        dag_file: The DAG's file, `__file__`.

    Raises:
        ValueError: Its snapshot is wrong; file and key are named.
    """

    @task
    def export(table: str) -> int:
        import pyarrow as pa

        from flights.library.tables import TABLES
        from shared.loading.staging import storage, write_parquet
        from shared.loading.warehouse import create_tables, query, warehouse_hook

        hook = warehouse_hook()
        create_tables(hook, TABLES)
        rows = query(hook, f"SELECT * FROM {table}")  # noqa: S608  a name that the model lists
        write_parquet(pa.Table.from_pylist(rows), storage("exports", f"{table}.parquet"))
        return len(rows)

    found = read_snapshot(dag_file, Export)
    with snapshot_dag(dag_file, found) as dag:
        export(found.table)
    return dag


class Exports(Source):
    """The active rows of `pipeline_configurations`."""

    model: ClassVar[type[Snapshot]] = Export
    builder: ClassVar[str] = "flights.library.exports:export_dag"

    def read(self) -> Entries:
        """An export for each active row."""
        from shared.loading.warehouse import warehouse_hook

        return from_database(warehouse_hook(), self.prefix, self.defaults("export"))
