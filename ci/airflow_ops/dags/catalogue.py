"""`dags list`: the DAGs of this checkout, without a running Airflow."""

from dataclasses import dataclass

from airflow_ops.console import err, progress
from airflow_ops.dags.facts import Dag
from airflow_ops.dags.inspection import inspect_bundle
from airflow_ops.paths import DAGS

DEFAULT_SIZE = "default"


@dataclass(frozen=True)
class Entry:
    """One DAG in the list."""

    dag_id: str
    domain: str
    schedule: str
    owners: list[str]
    tasks: int
    sizes: list[str]
    pools: list[str]


def catalogue() -> list[Entry]:
    """Every DAG of the bundle, by its id; a file that cannot be imported is reported on standard error."""
    with progress() as bar:
        line = bar.add_task("loading DAGs", total=1)
        found = inspect_bundle(DAGS, None)
        bar.update(line, completed=1)
    for violation in found.violations:
        if violation.rule in ("parse", "access"):
            err.print(f"left out: {violation}")
    return [_entry(dag) for dag in sorted(found.dags, key=lambda dag: dag.dag_id)]


def _entry(dag: Dag) -> Entry:
    return Entry(
        dag_id=dag.dag_id,
        domain=dag.file.partition("/")[0],
        schedule=dag.schedule,
        owners=sorted({task.owner for task in dag.tasks}),
        tasks=len(dag.tasks),
        sizes=sorted({task.size or DEFAULT_SIZE for task in dag.tasks}),
        pools=sorted({task.pool for task in dag.tasks}),
    )
