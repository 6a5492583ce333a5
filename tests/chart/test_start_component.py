"""A component waits at its start for the end of the other colour's: the chart's program on Airflow's table of jobs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from airflow_ops.paths import ROOT
from airflow_ops.waiting import wait_until
from support.metadata_database import running_server

SCRIPTS = ROOT / "charts/airflow/files/scripts"
FILL = """
import airflow.models
from datetime import timedelta
from airflow.jobs.job import Job
from airflow.models.base import Base
from airflow.settings import engine
from airflow.utils.session import create_session
from airflow._shared.timezones.timezone import utcnow

airflow.models.import_all_models()
Base.metadata.create_all(engine)
ROWS = [
    ("SchedulerJob", "running", "airflow-blue-scheduler-1", 0),
    ("SchedulerJob", "running", "airflow-blue-scheduler-killed", 3600),
    ("SchedulerJob", "success", "airflow-blue-scheduler-ended", 0),
    ("SchedulerJob", "running", "airflow-green-scheduler-1", 0),
    ("TriggererJob", "running", "airflow-green-triggerer-1", 0),
    ("DagProcessorJob", "success", "airflow-blue-dag-processor-1", 0),
]
with create_session() as session:
    for job_type, state, host, age in ROWS:
        job = Job(job_type=job_type, state=state, hostname=host, latest_heartbeat=utcnow() - timedelta(seconds=age))
        job.job_type, job.hostname, job.state = job_type, host, state
        session.add(job)
"""
OTHERS = """
import json, start_component as s
print(json.dumps({f"{c} {r}": s.other_colour(c, r) for c in s.JOB_TYPES for r in ("airflow-blue", "airflow-green")}))
"""
ENTER = """
import sys, threading, time
import start_component as s
from airflow.utils import net
host = sys.argv[1]
net.get_hostname = lambda: host
may_start = threading.Event()
threading.Thread(target=s.guard, args=("scheduler", "-".join(host.split("-")[:2]), may_start), daemon=True).start()
may_start.wait()
time.sleep(float(sys.argv[2]))
"""
"""Starts as a pod of a host name does; then does nothing for some seconds, and does not enter the table of jobs."""
ADD = """
import sys
from airflow.jobs.job import Job
from airflow.utils.session import create_session
from airflow._shared.timezones.timezone import utcnow
with create_session() as session:
    job = Job(job_type="SchedulerJob", state="running", latest_heartbeat=utcnow())
    job.hostname = sys.argv[1]
    session.add(job)
"""
END = """
from sqlalchemy import update
from airflow.jobs.job import Job
from airflow.utils.session import create_session
with create_session() as session:
    session.execute(update(Job).where(Job.hostname == "airflow-blue-scheduler-1").values(state="success"))
"""
WATCHER = """
import multiprocessing, multiprocessing.util, signal, sys, time
import start_component
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_utils import KubernetesJobWatcher as Watcher

class KubernetesJobWatcher(multiprocessing.Process):
    def run(self):
        time.sleep(30)

assert issubclass(Watcher, multiprocessing.Process) and Watcher.__name__ == KubernetesJobWatcher.__name__
signal.signal(signal.SIGTERM, lambda *_: None)  # as the scheduler's handler in a child
if sys.argv[1] == "restored":
    multiprocessing.util.register_after_fork(multiprocessing, start_component.end_watchers_at_once)
watcher, other = KubernetesJobWatcher(), multiprocessing.Process(target=time.sleep, args=(30,))
for process in (watcher, other):
    process.start()
time.sleep(0.5)
watcher.terminate(), other.terminate()
watcher.join(2), other.join(0.1)
print(watcher.is_alive(), other.is_alive())
watcher.kill(), other.kill()
"""

LOOK = """
import ctypes, os, sys, types
import start_component

if os.geteuid() == 0:
    # Root may read everything. A change of user hides a process too, so that is undone.
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
    assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0


def look():
    parent = os.getpid()
    if os.fork():
        os.wait()
        return
    for file in ("environ", "mem", "maps"):
        try:
            open(f"/proc/{parent}/{file}", "rb").close()
            print(file)
        except PermissionError:
            pass
    sys.stdout.flush()
    os._exit(0)


start_component.import_component = lambda component: None
start_component.enter = lambda component, release, may_start: may_start.set()
sys.modules["airflow.__main__"] = types.SimpleNamespace(main=look)
start_component.main()
"""
"""Starts a component whose only work is a process that looks at what it may read of the component."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which a program uses a database that has jobs of both colours."""
    home = tmp_path_factory.mktemp("airflow")
    variables = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    variables |= {
        "PYTHONPATH": str(SCRIPTS),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }
    run(variables, FILL)
    return variables


def run(environment: dict[str, str], program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_living_components_of_the_other_colour_count(environment: dict[str, str]) -> None:
    found = json.loads(run(environment, OTHERS).splitlines()[-1])
    assert found == {
        "scheduler airflow-green": ["airflow-blue-scheduler-1"],
        "scheduler airflow-blue": ["airflow-green-scheduler-1"],
        "dag-processor airflow-green": [],
        "dag-processor airflow-blue": [],
        "triggerer airflow-green": [],
        "triggerer airflow-blue": ["airflow-green-triggerer-1"],
    }


@contextmanager
def entering(
    environment: dict[str, str], host: str, output: Path, seconds: float
) -> Iterator["subprocess.Popen[bytes]"]:
    """A pod that starts; what it says is in a file."""
    command = [sys.executable, "-c", ENTER, host, str(seconds)]
    with output.open("w") as file, subprocess.Popen(command, env=environment, stdout=file) as process:
        yield process
        process.kill()


def test_it_goes_on_in_the_moment_in_which_the_other_has_ended(environment: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "output"
    with entering(environment, "airflow-green-scheduler-2-2", output, 0) as process:
        waits = "scheduler waits until airflow-blue-scheduler-1 has ended"
        assert wait_until(lambda: waits in output.read_text(), 60, 0.1)
        assert process.poll() is None
        run(environment, END)
        assert wait_until(lambda: "scheduler of airflow-green starts" in output.read_text(), 10, 0.1)
        assert process.wait(10) == 0


def test_of_two_colours_that_start_at_once_one_waits(environment: dict[str, str], tmp_path: Path) -> None:
    """Both find nobody alive, and it takes seconds until a component that has started is in the table of jobs."""
    with running_server() as server:
        url = server.url()
        variables = environment | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
        outputs = {colour: tmp_path / colour for colour in ("blue", "green")}

        def started() -> list[str]:
            return [colour for colour, output in outputs.items() if " starts: " in output.read_text()]

        with ExitStack() as stack:
            processes = {
                colour: stack.enter_context(entering(variables, f"airflow-{colour}-scheduler-1-1", output, 600))
                for colour, output in outputs.items()
            }
            assert wait_until(started, 60, 0.1)
            time.sleep(3)
            (first,) = started()
            processes[first].kill()
            assert wait_until(lambda: len(started()) == 2, 20, 0.1), "the lock ends with who held it"


def test_the_next_replica_starts_as_soon_as_one_is_in_the_table_of_jobs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with running_server() as server:
        variables = environment | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": server.url()}
        hosts = ["airflow-blue-scheduler-1-1", "airflow-blue-scheduler-1-2"]
        one, two = (tmp_path / host for host in hosts)
        with entering(variables, hosts[0], one, 600), ExitStack() as stack:
            assert wait_until(lambda: " starts: " in one.read_text(), 60, 0.1)
            stack.enter_context(entering(variables, hosts[1], two, 600))
            time.sleep(8)
            assert two.read_text() == "", "the first one is not there yet"
            run(variables, ADD, hosts[0])
            assert wait_until(lambda: " starts: " in two.read_text(), 10, 0.1)


def test_sigterm_ends_a_watcher_and_no_other_child(environment: dict[str, str]) -> None:
    assert run(environment, WATCHER, "restored").split() == ["False", "True"]
    assert run(environment, WATCHER, "as in Airflow").split() == ["True", "True"], "then this is not needed any more"


@pytest.mark.parametrize(
    ("component", "readable"), [("scheduler", ["environ", "mem", "maps"]), ("dag-processor", []), ("triggerer", [])]
)
def test_where_code_of_dags_runs_no_process_reads_the_component(component: str, readable: list[str]) -> None:
    """In the scheduler no such code runs, so it shows that there is something to read."""
    if sys.platform != "linux":
        pytest.skip("/proc is Linux's")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SCRIPTS)}
    assert run(environment, LOOK, component, "airflow-blue").split() == readable
