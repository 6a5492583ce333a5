"""What a snapshot says becomes a DAG: an export of a table, or a probe of an endpoint."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.sdk import DAG, task

from shared.authoring.configuration import read
from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources
from shared.loading.tables import Table
from shared.patterns.api_operator import RobustApiOperator
from shared.patterns.snapshots import SNAPSHOTS, Export, snapshot_of

DOCUMENTATION = """
### Generated: {kind}

Made from `dags/config/snapshots/{dag_id}.json`, which `platform_refresh_snapshots` writes: change the source, not it.

**If it fails** see its log; if its configuration is wrong, mend the source and trigger `platform_refresh_snapshots`.
"""


def snapshot_dag(dag_file: str, tables: Sequence[Table] = ()) -> DAG:
    """The DAG of one snapshot.

    Args:
        dag_file: The DAG's file, `__file__`: its name is the DAG's id and that of the snapshot.
        tables: The tables of its domain, of which an export names one.

    Raises:
        ValueError: The snapshot cannot be read or is wrong; file and key are named.
    """
    dag_id = Path(dag_file).stem
    path = SNAPSHOTS / f"{dag_id}.json"
    entry = read(path, snapshot_of)
    if isinstance(entry, Export) and entry.table not in [table.name for table in tables]:
        raise ValueError(f"{path}: table: there is no table {entry.table!r}.")
    with DAG(
        dag_id=dag_id,
        schedule=entry.schedule,
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=entry.timeout_minutes),
        default_args=default_args(entry.owner, "api", executor_config=resources("small")),
        on_failure_callback=notify_run_failure,
        tags=[dag_id.split("_", 1)[0], "generated"],
        doc_md=DOCUMENTATION.format(kind=entry.kind, dag_id=dag_id),
    ) as dag:
        if isinstance(entry, Export):
            _add_export(entry.table, tables)
        else:
            RobustApiOperator(task_id="probe", conn_id="airflow_api", endpoint=entry.endpoint)
    return dag


def _add_export(name: str, tables: Sequence[Table]) -> None:
    @task
    def export(table: str) -> int:
        import pyarrow as pa

        from shared.loading.staging import storage, write_parquet
        from shared.loading.warehouse import create_tables, query, warehouse_hook

        hook = warehouse_hook()
        create_tables(hook, tables)
        rows = query(hook, f"SELECT * FROM {table}")  # noqa: S608  a name that was checked above
        write_parquet(pa.Table.from_pylist(rows), storage("exports", f"{table}.parquet"))
        return len(rows)

    export(name)
