"""One DAG a tenant, made from `dags/flights/config/pipelines/<DAG id>.yaml`.

Each tenant has a DAG file of its own, three lines that are the same in all. One file that made all of them would be
less to write, but Airflow keeps one import error a file and marks every DAG of that file stale with it
(`_update_import_errors` in `airflow.dag_processing.collection`): one tenant's mistake would stop all tenants.
"""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import pendulum
from airflow.sdk import DAG, CronPartitionTimetable, TriggerRule, get_current_context, task
from pydantic import AfterValidator, Field, field_validator

from flights.library.settings import CONFIG
from flights.library.tables import LOCAL_TIMEZONE
from shared.authoring.configuration import Cron, Section, read_checked
from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.partitions import DAY
from shared.authoring.resources import resources, sizes
from shared.patterns.waiting import RecordSensor

log = logging.getLogger(__name__)
PIPELINES = CONFIG / "pipelines"
DOCUMENTATION = """
### Slices of {origin}, a day at a time

Made from `dags/flights/config/pipelines/{dag_id}.yaml`: change it there. **Partition:** a day in New York,
`2013-01-15`.

| Task | Does |
|---|---|
| `choose_day` | names the day of the run |
| `wait_for_load` | waits in the triggerer until `flights_ingest_daily` has loaded the day |
| `slice_<table>` | writes the rows of {origin} to `tenants/{origin}/<table>/<day>.parquet`; repeated, the same |
| `finish` | succeeds if at least one table had rows and none failed |

**If `wait_for_load` times out:** load the day (`flights_ingest_daily`), then clear it.
"""


def _is_size(name: str) -> str:
    if name not in sizes():
        raise ValueError(f"{name!r} does not exist: use one of {', '.join(sizes())}")
    return name


SizeName = Annotated[str, AfterValidator(_is_size)]


class TaskSizes(Section):
    """Worker sizes (`dags/config/sizes.yaml`) of the tasks that wait and of those that slice."""

    wait: SizeName
    slice: SizeName


class Pipeline(Section):
    """One tenant's configuration.

    Attributes:
        owner: The team that answers for the tenant.
        origin: The tenant: an airport of departure, three capital letters.
        schedule: Cron, in the time of New York; a run is for the day before.
        tables: Whose slices the tenant gets.
        timeout_minutes: After which a run fails; at most a day.
        max_active_runs: Runs at once.
        sizes: Worker sizes.
        pool: Pool of the slicing tasks (`dags/config/pools.yaml`).
    """

    owner: Annotated[str, Field(min_length=1)]
    origin: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    schedule: Cron
    tables: Annotated[list[Literal["flights", "weather"]], Field(min_length=1)]
    timeout_minutes: Annotated[int, Field(ge=1, le=1440)]
    max_active_runs: Annotated[int, Field(ge=1, le=15)]
    sizes: TaskSizes
    pool: Annotated[str, Field(min_length=1)]

    @field_validator("tables")
    @classmethod
    def _each_once(cls, tables: list[str]) -> list[str]:
        if len(set(tables)) < len(tables):
            raise ValueError("names a table twice")
        return tables


def tenant_dag(dag_file: str) -> DAG:
    """The DAG of a tenant.

    Args:
        dag_file: The DAG's file, `__file__`: its name is the DAG's id and that of the configuration.

    Raises:
        ValueError: Its configuration cannot be read, or a key is unknown, missing or wrong; file and key are named.
    """
    dag_id = Path(dag_file).stem
    config = read_checked(PIPELINES / f"{dag_id}.yaml", Pipeline)
    origin = config.origin
    with DAG(
        dag_id=dag_id,
        schedule=CronPartitionTimetable(config.schedule, timezone=LOCAL_TIMEZONE, run_offset=-1, key_format=DAY),
        start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
        end_date=pendulum.datetime(2014, 1, 1, tz="UTC"),  # the published year: no run is due after it
        catchup=False,
        max_active_runs=config.max_active_runs,
        max_consecutive_failed_dag_runs=5,
        dagrun_timeout=timedelta(minutes=config.timeout_minutes),
        default_args=default_args(config.owner, executor_config=resources(config.sizes.wait)),
        on_failure_callback=notify_run_failure,
        tags=["flights", "daily", "tenant"],
        doc_md=DOCUMENTATION.format(origin=origin, dag_id=dag_id),
    ) as dag:
        _add_tasks(origin, config)
    return dag


def _add_tasks(origin: str, config: Pipeline) -> None:
    @task
    def choose_day() -> str:
        from shared.authoring.partitions import day_of

        return day_of(get_current_context()).isoformat()

    @task(pool=config.pool, executor_config=resources(config.sizes.slice))
    def write_slice(table: str, day: Any) -> int:
        from flights.library.slices import write_slice

        return write_slice(table, origin, day)

    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def finish() -> None:
        log.info("%s has its slices", origin)

    day = choose_day()
    loaded = RecordSensor(
        task_id="wait_for_load",
        conn_id="warehouse",
        sql="SELECT COUNT(*) FROM load_ledger WHERE table_name = 'flights' AND partition_key = ?",
        parameters=["{{ ti.xcom_pull('choose_day') }}"],
    )
    slices = [write_slice.override(task_id=f"slice_{table}")(table, day) for table in config.tables]
    day >> loaded >> slices >> finish()
