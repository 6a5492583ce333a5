"""How tests run upgrades, interrupt them, and look at what came of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import pairwise

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.record import Record, RecordStore, State
from airflow_ops.manifests.objects import Colour
from support import failing_command
from support.ledger import Row, set_end
from support.live_environment import OPS, Airflow, ops, target, wait_for

UNBUFFERED = {**os.environ, "PYTHONUNBUFFERED": "1"}


def failing_at(state: State) -> tuple[str, ...]:
    """`airflow-ops` in which a state of an upgrade fails after its work is done."""
    return (sys.executable, str(failing_command.__file__), state)


def record(cluster: Cluster) -> Record:
    found = RecordStore(cluster).read()
    assert found
    return found


def run_with(
    actions: dict[str, Callable[[], object]], *command: str, program: tuple[str, ...] = (str(OPS),)
) -> tuple[int, str]:
    """Run a command; when it prints a line that begins with a key of `actions`, do that."""
    said = []
    with subprocess.Popen(
        [*program, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=UNBUFFERED
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            for beginning in [key for key in actions if line.startswith(key)]:
                actions.pop(beginning)()
    assert not actions, f"it never said {list(actions)}: {''.join(said)}"
    return process.returncode, " ".join("".join(said).split())


def kill_in(state: State, to: Colour, seconds: float, *command: str) -> None:
    """Run a command, and kill it some seconds after it has said that it begins a state."""
    said = []
    with subprocess.Popen(
        [OPS, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=UNBUFFERED
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            if line.startswith(f"{state} ({to})"):
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL, f"it never came to {state}: {''.join(said)}"


def kill_in_each(states: Iterable[State], to: Colour, seconds: float, *command: str) -> tuple[int, str]:
    """Kill a command in one state after the other, then let it end; gives its exit code and what it said."""
    for state in states:
        kill_in(state, to, seconds, *command)
    return run_with({}, *command)


def end_runs(cluster: Cluster, runs: dict[str, list[str]]) -> None:
    """Let the long tasks end, and see that every run succeeds."""
    set_end(cluster, "yes")
    with login(cluster) as client:
        airflow = Airflow(client, cluster)
        for dag, ids in runs.items():
            for run in ids:
                assert airflow.wait_for_end(dag, run) == "success", (dag, run)


def go_back(cluster: Cluster) -> None:
    """Roll back once the tasks of the newer colour have ended, if an upgrade soaks; blue works then."""
    wait_for("the end of green's pods", lambda: not live.worker_pods(cluster, Colour.GREEN), 300)
    if record(cluster).is_open:
        done = ops("rollback", *target(cluster))
        assert done.returncode == 0, done.stdout + done.stderr
    assert live.live_colour(cluster) is Colour.BLUE
    assert not any(each.spec.replicas for each in live.deployments(cluster, Colour.GREEN).values())


def end_everything(cluster: Cluster) -> None:
    """Bring an environment back to blue that a failed test has left in the middle of an upgrade."""
    found = RecordStore(cluster).read()
    if found and found.is_open:
        set_end(cluster, "yes")
        wait_for("the rollback", lambda: ops("rollback", *target(cluster)).returncode == 0, 900)


def check_requests(found: Record) -> None:
    """Every kind of request was sent, and none failed."""
    assert len(found.probed) == 5
    for name, probed in found.probed.items():
        assert probed.requests > 50, name
        assert probed.failed == 0, f"{name}: {probed.failures}"


def report(found: Record, rows: list[Row], *ways: list[str]) -> None:
    """Print how long nothing started, and how many requests were sent."""
    for way, runs in zip(("upgrade", "rollback"), ways, strict=True):
        started = sorted(datetime.fromisoformat(r.at) for r in rows if r.run_id in runs and r.event == "start")
        gap = max((later - earlier).total_seconds() for earlier, later in pairwise(started))
        print(f"\n{way}: {len(runs)} short runs, longest time without a start {gap:.0f} s")
    for passage in found.passages:
        seconds = f"{(passage.ended - passage.began).total_seconds():.1f} s" if passage.ended else "not ended"
        print(f"{passage.state} to {passage.to}: {seconds}")
    probed = found.probed.values()
    print(f"requests: {sum(p.requests for p in probed)}, failed {sum(p.failed for p in probed)}, ", end="")
    print(f"slowest {max(p.worst_ms for p in probed)} ms")


def print_fault(name: str, found: Record) -> None:
    """Print a line of the table of faults: what was done, where the upgrade ended, and how requests fared."""
    sent, failed = (sum(getattr(p, field) for p in found.probed.values()) for field in ("requests", "failed"))
    print(f"\n{name} | {found.phase} | {failed} of {sent} requests failed | {found.reason}")
