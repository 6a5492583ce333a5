"""One DAG a tenant, made from `dags/config/pipelines/<DAG id>.yaml`.

Each tenant has a DAG file of its own, three lines that are the same in all. One file that made all of them would be
less to write, but Airflow keeps one import error a file and marks every DAG of that file stale with it
(`_update_import_errors` in `airflow.dag_processing.collection`): one tenant's mistake would stop all tenants.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
import yaml
from airflow.sdk import DAG, CronPartitionTimetable, TriggerRule, get_current_context, task

from shared.defaults import default_args
from shared.environment import CONFIG
from shared.flights_tables import LOCAL_TIMEZONE
from shared.notifications import notify_run_failure
from shared.partitions import DAY
from shared.resources import resources, sizes
from shared.waiting import RecordSensor

PIPELINES = CONFIG / "pipelines"
SCHEMA = CONFIG / "pipeline.schema.json"
DOCUMENTATION = """
### Slices of {origin}, a day at a time

Made from `dags/config/pipelines/{dag_id}.yaml`: change it there. **Partition:** a day in New York, `2013-01-15`.

| Task | Does |
|---|---|
| `choose_day` | names the day of the run |
| `wait_for_load` | waits in the triggerer until `flights_ingest_daily` has loaded the day |
| `slice_<table>` | writes the rows of {origin} to `tenants/{origin}/<table>/<day>.parquet`; repeated, the same |
| `finish` | succeeds if at least one table had rows and none failed |

**If `wait_for_load` times out:** load the day (`flights_ingest_daily`), then clear it.
"""


def read_pipeline(path: Path) -> dict[str, Any]:
    """One tenant's configuration, as `dags/config/pipeline.schema.json` has it.

    Raises:
        ValueError: It cannot be read, or a key is unknown, missing or wrong; file and key are named.
    """
    import jsonschema
    from croniter import croniter

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    checker = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    for fault in sorted(checker.iter_errors(content), key=lambda found: list(map(str, found.absolute_path))):
        key = ".".join(map(str, fault.absolute_path)) or "the file"
        raise ValueError(f"{path}: {key}: {fault.message}; see {SCHEMA.name}.")
    if not croniter.is_valid(content["schedule"]):
        raise ValueError(f"{path}: schedule: {content['schedule']!r} is no cron expression.")
    for use, size in content["sizes"].items():
        if size not in sizes():
            raise ValueError(f"{path}: sizes.{use}: {size!r} does not exist: use one of {', '.join(sizes())}.")
    config: dict[str, Any] = content
    return config


def tenant_dag(dag_file: str) -> DAG:
    """The DAG of a tenant.

    Args:
        dag_file: The DAG's file, `__file__`: its name is the DAG's id and that of the configuration.

    Raises:
        ValueError: As of `read_pipeline`.
    """
    dag_id = Path(dag_file).stem
    config = read_pipeline(PIPELINES / f"{dag_id}.yaml")
    origin = config["origin"]
    with DAG(
        dag_id=dag_id,
        schedule=CronPartitionTimetable(config["schedule"], timezone=LOCAL_TIMEZONE, run_offset=-1, key_format=DAY),
        start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
        end_date=pendulum.datetime(2014, 1, 1, tz="UTC"),  # the published year: no run is due after it
        catchup=False,
        max_active_runs=config["max_active_runs"],
        max_consecutive_failed_dag_runs=5,
        dagrun_timeout=timedelta(minutes=config["timeout_minutes"]),
        default_args=default_args(config["owner"], executor_config=resources(config["sizes"]["wait"])),
        on_failure_callback=notify_run_failure,
        tags=["flights", "daily", "tenant"],
        doc_md=DOCUMENTATION.format(origin=origin, dag_id=dag_id),
    ) as dag:
        _add_tasks(origin, config)
    return dag


def _add_tasks(origin: str, config: dict[str, Any]) -> None:
    @task
    def choose_day() -> str:
        from shared.partitions import day_of

        return day_of(get_current_context()).isoformat()

    @task(pool=config["pool"], executor_config=resources(config["sizes"]["slice"]))
    def write_slice(table: str, day: Any) -> int:
        from shared.tenant_slices import write_slice

        return write_slice(table, origin, day)

    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def finish() -> None:
        print(f"{origin} has its slices.")

    day = choose_day()
    loaded = RecordSensor(
        task_id="wait_for_load",
        conn_id="warehouse",
        sql="SELECT COUNT(*) FROM load_ledger WHERE table_name = 'flights' AND partition_key = ?",
        parameters=["{{ ti.xcom_pull('choose_day') }}"],
    )
    slices = [write_slice.override(task_id=f"slice_{table}")(table, day) for table in config["tables"]]
    day >> loaded >> slices >> finish()
