"""What a snapshot says becomes a DAG: the part that runs when a DAG file is parsed.

A domain declares what its snapshots may say with a model that extends `Snapshot`, and which tasks their DAGs have:
`shared.generating.probes` and `dags/flights/library/exports.py` are examples.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import pendulum
from airflow.sdk import DAG
from pydantic import Field

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources
from shared.configuration import Closed, Cron, Text, read

DOCUMENTATION = """
### Generated: {kind}

Made from `dags/{domain}/config/snapshots/{dag_id}.json`, which `platform_refresh_snapshots` writes: change the source,
not the file.

**If it fails** see its log; if its configuration is wrong, mend the source and trigger `platform_refresh_snapshots`.
"""


class Snapshot(Closed):
    """What every snapshot says.

    Attributes:
        kind: What the DAG does.
        owner: The team that answers for it.
        schedule: When it runs, in UTC; None for one that is triggered by hand.
        timeout_minutes: After how long a run fails.
    """

    kind: str
    owner: Text
    schedule: Cron | None
    timeout_minutes: Annotated[int, Field(ge=1, le=1440)]


Model = TypeVar("Model", bound=Snapshot)


def domain_of(dag_id: str) -> str:
    """The domain of a DAG, which is the beginning of its id and the folder of its file."""
    return dag_id.split("_", 1)[0]


def read_snapshot(dag_file: str, model: type[Model]) -> Model:
    """The snapshot of a DAG.

    Args:
        dag_file: The DAG's file, `__file__`: its name is the DAG's id and that of the snapshot.
        model: What the snapshot must be.

    Raises:
        ValueError: The snapshot cannot be read or is wrong; file and key are named.
    """
    file = Path(dag_file)
    return read(file.parent / "config/snapshots" / f"{file.stem}.json", model)


def snapshot_dag(dag_file: str, snapshot: Snapshot) -> DAG:
    """Make the DAG of one snapshot, without tasks: the domain adds them in a `with` block.

    Args:
        dag_file: As of `read_snapshot`.
        snapshot: What it is made from.
    """
    dag_id = Path(dag_file).stem
    domain = domain_of(dag_id)
    return DAG(
        dag_id=dag_id,
        schedule=snapshot.schedule,
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=snapshot.timeout_minutes),
        default_args=default_args(snapshot.owner, "api", executor_config=resources("small")),
        on_failure_callback=notify_run_failure,
        tags=[domain, "generated"],
        doc_md=DOCUMENTATION.format(kind=snapshot.kind, domain=domain, dag_id=dag_id),
    )
