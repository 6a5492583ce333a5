"""The command is killed in each state of an upgrade and of its rollback; run again, it continues, and nothing is lost.

Not part of `make e2e`: it takes half an hour (make e2e-upgrade).
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable

import pytest

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import Phase, RecordStore, State
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades.steps import BACK, FORWARD
from support.ledger import DAG, TICK, check_ledger, ledger, push_dags, set_end, start, ticking
from support.live_environment import OPS, Airflow, DagRepository, ops, target, wait_for

UNBUFFERED = {**os.environ, "PYTHONUNBUFFERED": "1"}
pytestmark = pytest.mark.upgrade_faults


def kill_in(state: State, to: Colour, seconds: float, *command: str) -> None:
    """Run a command, and kill it some seconds after it has said that it begins a state."""
    with subprocess.Popen(
        [OPS, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=UNBUFFERED
    ) as process:
        for line in process.stdout or ():
            if line.startswith(f"{state} ({to})"):
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL, f"it never came to {state}"


def kill_in_each(states: Iterable[State], to: Colour, seconds: float, *command: str) -> None:
    """Kill a command in one state after the other, then let it end."""
    for state in states:
        kill_in(state, to, seconds, *command)
    done = ops(*command)
    assert done.returncode in (0, 1), done.stdout + done.stderr


@pytest.mark.parametrize("seconds", [0, 2.5])
def test_a_command_that_is_killed_in_each_state_continues(
    seconds: float, cluster: Cluster, dag_repository: DagRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    version = cluster.environment.values["global"]["airflowVersion"]
    push_dags(cluster, dag_repository)
    first = start(cluster)
    with ticking(cluster) as ticks:
        kill_in_each(
            FORWARD, Colour.GREEN, seconds, "upgrade", *target(cluster), "--overlay", "e2e-upgrade", "--to", version
        )
    runs = {TICK: ticks.runs}
    assert live.live_colour(cluster) is Colour.GREEN
    record = RecordStore(cluster).read()
    assert record
    assert record.phase is Phase.SOAKING
    second = start(cluster)
    with ticking(cluster) as ticks:
        kill_in_each(BACK, Colour.BLUE, seconds, "rollback", *target(cluster))
    assert live.live_colour(cluster) is Colour.BLUE
    runs[TICK] = [*runs[TICK], *ticks.runs]
    set_end(cluster, "yes")
    with login(cluster) as client:
        airflow = Airflow(client, cluster)
        for dag, ids in {DAG: [first, second], **runs}.items():
            for run in ids:
                assert airflow.wait_for_end(dag, run) == "success", (dag, run)
    wait_for("the end of green's pods", lambda: not live.worker_pods(cluster, Colour.GREEN), 120)
    done = ops("rollback", *target(cluster))
    assert done.returncode == 0, done.stdout + done.stderr
    check_ledger(ledger(cluster), [first, second])
    record = RecordStore(cluster).read()
    assert record
    with capsys.disabled():
        for passage in record.passages:
            print(f"\n{passage.state} to {passage.to}: {'passed' if passage.ended else 'killed'}", end="")
        for name, probed in record.probed.items():
            print(f"\n{name}: {probed.requests} requests, {probed.failed} failed {probed.failures}", end="")
