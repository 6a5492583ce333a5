"""A ledger outside of Airflow: every task of the DAGs e2e_survive_upgrade and e2e_tick writes its start and its end."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_client.client import VariableApi, VariableBody
from airflow_client.client.exceptions import NotFoundException

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster
from airflow_ops.paths import ROOT
from support.live_environment import Airflow, DagRepository, wait_for

DAG, TICK = "e2e_survive_upgrade", "e2e_tick"
END = "e2e_upgrade_end"
TABLE = """
DROP TABLE IF EXISTS e2e_ledger;
CREATE TABLE e2e_ledger (dag_id text, run_id text, task_id text, map_index int, try_number int, event text, host text,
  at timestamptz DEFAULT clock_timestamp());
"""


@dataclass(frozen=True)
class Row:
    """A start or an end of a task, written by itself."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: str
    try_number: str
    event: str
    host: str
    at: str

    @property
    def execution(self) -> tuple[str, ...]:
        return (self.dag_id, self.run_id, self.task_id, self.map_index, self.try_number)


def warehouse(cluster: Cluster, sql: str) -> list[str]:
    """What the warehouse answers to SQL, a line a row."""
    password = (cluster.secret("airflow-database") or {})["warehouse"]
    psql = f"PGPASSWORD=$(cat) psql -h 127.0.0.1 -U warehouse -d warehouse -qAt -F '|' -c \"{sql}\""
    pod = ("exec", "--stdin", "airflow-database-0", "--container", "postgres", "--")
    return cluster.kubectl(*pod, "bash", "-c", psql, stdin=password).splitlines()


def ledger(cluster: Cluster) -> list[Row]:
    return [Row(*line.split("|")) for line in warehouse(cluster, "SELECT * FROM e2e_ledger ORDER BY at")]


@dataclass
class Ticks:
    """Posts a short run every few seconds, whatever happens meanwhile."""

    cluster: Cluster
    runs: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def post(self) -> None:
        while not self.stopped.wait(6):
            with login(self.cluster) as client:
                self.runs.append(Airflow(client, self.cluster).trigger(TICK))


@contextlib.contextmanager
def ticking(cluster: Cluster) -> Iterator[Ticks]:
    ticks = Ticks(cluster)
    thread = threading.Thread(target=ticks.post)
    thread.start()
    try:
        yield ticks
    finally:
        ticks.stopped.set()
        thread.join()


def set_end(cluster: Cluster, value: str) -> None:
    """Tell the long tasks whether to end."""
    with login(cluster) as client:
        with contextlib.suppress(NotFoundException):
            VariableApi(client).delete_variable(END)
        VariableApi(client).post_variable(VariableBody(key=END, value=value))


def push_dags(cluster: Cluster, dag_repository: DagRepository, **others: str | None) -> None:
    """Make an empty ledger, and let the environment serve the DAGs that write to it.

    Args:
        cluster: The environment.
        dag_repository: Where they are pushed.
        **others: Further files by path, None to take one away.
    """
    warehouse(cluster, TABLE)
    set_end(cluster, "no")
    own = {f"dags/platform/{DAG}.py": (ROOT / f"tests/e2e/dags/{DAG}.py").read_text()}
    commit = dag_repository.push({**own, **others})
    with login(cluster) as client:
        airflow = Airflow(client, cluster)
        for dag in (DAG, TICK):
            wait_for(dag, lambda dag=dag: airflow.serves(dag, commit), 120)  # type: ignore[misc]
            airflow.unpause(dag)


def start(cluster: Cluster) -> str:
    """A run whose long task runs, whose other task is deferred, and whose first failure has happened."""
    with login(cluster) as client:
        airflow = Airflow(client, cluster)
        run = airflow.trigger(DAG)
        wait_for("the long task", lambda: airflow.task_state(DAG, run, "run_long") == "running")
        wait_for("the deferred task", lambda: airflow.task_state(DAG, run, "wait_in_triggerer") == "deferred")
    return run


def check_ledger(rows: list[Row], runs: list[str]) -> None:
    """Every execution started once and, unless it was to fail, ended once, on the host where it started or resumed."""
    starts, ends = (Counter(row.execution for row in rows if row.event == event) for event in ("start", "end"))
    assert not [
        execution for execution, times in (starts + ends).items() if max(starts[execution], ends[execution]) > 1
    ]
    tries = {execution: int(execution[4]) for execution in starts}
    for execution, number in tries.items():
        planned = 2 if execution[2] == "fail_first" else 1
        assert number <= planned, execution
        is_planned_failure = execution[2] == "fail_first" and number == 1
        assert bool(ends[execution]) is not is_planned_failure, execution
    for run in runs:
        mine = [row for row in rows if row.run_id == run]
        assert Counter(row.task_id for row in mine if row.event == "end") == {
            "run_long": 1,
            "fail_first": 1,
            "wait_in_triggerer": 1,
            "fan_out": 6,
        }
        assert len({row.host for row in mine if row.task_id == "run_long"}) == 1, "the same pod from start to end"
