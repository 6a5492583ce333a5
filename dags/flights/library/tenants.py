"""The tenants of flights: each gets the rows of one airport of departure, a day at a time, as files of its own."""

from typing import Annotated, Any, Literal

import pendulum
from airflow.sdk import DAG, TriggerRule, get_current_context, task
from pydantic import AfterValidator, Field

from flights.library.tables import LOCAL_TIMEZONE
from shared.authoring.defaults import default_args
from shared.authoring.resources import SizeName, resources
from shared.composing.waiting import RecordSensor
from shared.configuration import Closed
from shared.generating.tenants import Tenant, read_tenant, tenant_dag

DOCUMENTATION = """
### Slices of {origin}, a day at a time

Made from `dags/flights/config/tenants/{dag_id}.yaml`: change it there. **Partition:** a day in New York, `2013-01-15`.

| Task | Does |
|---|---|
| `choose_day` | names the day of the run |
| `wait_for_load` | waits in the triggerer until `flights_ingest_daily` has loaded the day |
| `slice_<table>` | writes the rows of {origin} to `tenants/{origin}/<table>/<day>.parquet`; repeatable |
| `finish` | succeeds if at least one table had rows and none failed |

**If `wait_for_load` times out:** load the day (`flights_ingest_daily`), then clear it.
"""


def _each_once(tables: list[str]) -> list[str]:
    if len(set(tables)) < len(tables):
        raise ValueError(f"{tables!r} names a table twice")
    return tables


class Sizes(Closed):
    """Worker sizes of the tasks that wait and of those that slice (`dags/config/sizes.yaml`)."""

    wait: SizeName
    slice: SizeName


class SliceTenant(Tenant):
    """A tenant that gets slices.

    Attributes:
        origin: An airport of departure.
        tables: Of which tables it gets slices.
        sizes: Worker sizes.
    """

    origin: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    tables: Annotated[list[Literal["flights", "weather"]], Field(min_length=1), AfterValidator(_each_once)]
    sizes: Sizes


def slice_dag(dag_file: str) -> DAG:
    """The DAG of a tenant.

    Args:
        dag_file: The DAG's file, `__file__`: its name is the DAG's id and that of the configuration.

    Raises:
        ValueError: The configuration is wrong; file and key are named.
    """
    tenant = read_tenant(dag_file, SliceTenant)
    with tenant_dag(
        dag_file,
        tenant,
        timezone=LOCAL_TIMEZONE,
        start_date=pendulum.datetime(2013, 1, 1, tz="UTC"),
        end_date=pendulum.datetime(2014, 1, 1, tz="UTC"),  # the published year: no run is due after it
        default_args=default_args(tenant.owner, executor_config=resources(tenant.sizes.wait)),
        tags=["flights", "daily", "tenant"],
    ) as dag:
        dag.doc_md = DOCUMENTATION.format(origin=tenant.origin, dag_id=dag.dag_id)
        _add_tasks(tenant)
    return dag


def _add_tasks(tenant: SliceTenant) -> None:
    @task
    def choose_day() -> str:
        from shared.authoring.partitions import day_of

        return day_of(get_current_context()).isoformat()

    @task(pool=tenant.pool, executor_config=resources(tenant.sizes.slice))
    def write_slice(table: str, day: Any) -> int:
        from flights.library.slices import write_slice

        return write_slice(table, tenant.origin, day)

    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def finish() -> None:
        """Nothing to do: its trigger rule is what counts."""

    day = choose_day()
    loaded = RecordSensor(
        task_id="wait_for_load",
        conn_id="warehouse",
        sql="SELECT COUNT(*) FROM load_ledger WHERE table_name = 'flights' AND partition_key = ?",
        parameters=["{{ ti.xcom_pull('choose_day') }}"],
    )
    slices = [write_slice.override(task_id=f"slice_{table}")(table, day) for table in tenant.tables]
    day >> loaded >> slices >> finish()
