"""What a snapshot says becomes a DAG: an export of a table, or a probe of an endpoint."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, task

from shared.defaults import default_args
from shared.environment import CONFIG
from shared.notifications import notify_run_failure
from shared.resources import resources
from shared.snapshots import fault

SNAPSHOTS = CONFIG / "snapshots"
DOCUMENTATION = """
### Generated: {kind}

Made from `dags/config/snapshots/{dag_id}.json`, which `platform_refresh_snapshots` writes: change the source, not it.

**If it fails** see its log; if its configuration is wrong, mend the source and trigger `platform_refresh_snapshots`.
"""


def snapshot_dag(dag_file: str) -> DAG:
    """The DAG of one snapshot.

    Args:
        dag_file: The DAG's file, `__file__`: its name is the DAG's id and that of the snapshot.

    Raises:
        ValueError: The snapshot cannot be read or is wrong; file and key are named.
    """
    dag_id = Path(dag_file).stem
    path = SNAPSHOTS / f"{dag_id}.json"
    try:
        entry: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON: {error}") from error
    if wrong := fault(dag_id, entry):
        raise ValueError(f"{path}: {wrong}; see snapshot.schema.json.")
    with DAG(
        dag_id=dag_id,
        schedule=entry["schedule"],
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=entry["timeout_minutes"]),
        default_args=default_args(entry["owner"], "api", executor_config=resources("small")),
        on_failure_callback=notify_run_failure,
        tags=[dag_id.split("_", 1)[0], "generated"],
        doc_md=DOCUMENTATION.format(kind=entry["kind"], dag_id=dag_id),
    ) as dag:
        {"export": _export, "probe": _probe}[entry["kind"]](entry)
    return dag


def _export(entry: dict[str, Any]) -> None:
    @task
    def export(table: str) -> int:
        import pyarrow as pa

        from shared.flights_tables import TABLES
        from shared.staging import storage, write_parquet
        from shared.warehouse import create_tables, query, warehouse_hook

        hook = warehouse_hook()
        create_tables(hook, TABLES)
        rows = query(hook, f"SELECT * FROM {table}")  # noqa: S608  a name that the schema lists
        write_parquet(pa.Table.from_pylist(rows), storage("exports", f"{table}.parquet"))
        return len(rows)

    export(entry["table"])


def _probe(entry: dict[str, Any]) -> None:
    from shared.api_operator import RobustApiOperator

    RobustApiOperator(task_id="probe", conn_id="airflow_api", endpoint=entry["endpoint"])
