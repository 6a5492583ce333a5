"""One DAG a tenant, made from `dags/<domain>/config/tenants/<DAG id>.yaml`.

Each tenant has a DAG file of its own, three lines that are the same in all. One file that made all of them would be
less to write, but Airflow keeps one import error a file and marks every DAG of that file stale with it
(`_update_import_errors` in `airflow.dag_processing.collection`): one tenant's mistake would stop all tenants.

A domain declares what its tenants may say with a model that extends `Tenant`, and which tasks their DAGs have:
`dags/flights/library/tenants.py` is an example.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from airflow.sdk import DAG, CronPartitionTimetable
from pydantic import Field

from shared.authoring.notifications import notify_run_failure
from shared.authoring.partitions import DAY
from shared.configuration import Closed, Cron, Text, read


class Tenant(Closed):
    """What every tenant's configuration says.

    Attributes:
        owner: The team that answers for the tenant.
        schedule: When the DAG runs, in the time zone of the domain; a run is for the day before.
        timeout_minutes: After how long a run fails.
        max_active_runs: How many runs there may be at once.
        pool: Pool of the tasks that work (`dags/config/pools.yaml`).
    """

    owner: Text
    schedule: Cron
    timeout_minutes: Annotated[int, Field(ge=1, le=1440)]
    max_active_runs: Annotated[int, Field(ge=1, le=15)]
    pool: Text


Model = TypeVar("Model", bound=Tenant)


def read_tenant(dag_file: str, model: type[Model]) -> Model:
    """The configuration of a tenant.

    Args:
        dag_file: The DAG's file, `__file__`: its name is the DAG's id and that of the configuration.
        model: What the configuration must be.

    Raises:
        ValueError: It cannot be read, or a key is unknown, missing or wrong; file and key are named.
    """
    file = Path(dag_file)
    return read(file.parent / "config/tenants" / f"{file.stem}.yaml", model)


def tenant_dag(dag_file: str, tenant: Tenant, *, timezone: str, **arguments: Any) -> DAG:
    """Make the DAG of a tenant, without tasks: the domain adds them in a `with` block.

    Args:
        dag_file: As of `read_tenant`.
        tenant: Its configuration.
        timezone: That of its schedule and of its partitions, which are days.
        **arguments: Further ones of the DAG: `start_date`, `default_args`, `tags`, `doc_md`.
    """
    return DAG(
        dag_id=Path(dag_file).stem,
        schedule=CronPartitionTimetable(tenant.schedule, timezone=timezone, run_offset=-1, key_format=DAY),
        catchup=False,
        max_active_runs=tenant.max_active_runs,
        max_consecutive_failed_dag_runs=5,
        dagrun_timeout=timedelta(minutes=tenant.timeout_minutes),
        on_failure_callback=notify_run_failure,
        **arguments,
    )
