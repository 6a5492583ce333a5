"""An operation that is killed at each step is run again and ends well, without a loss; a second one is refused.

The command is killed by SIGKILL when it says something that no run before it has said, then run again, until one ends
by itself. So each step that is added later is killed, too.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from airflow_client.client import ConnectionApi, ConnectionBody, VariableApi, VariableBody
from airflow_client.client.exceptions import NotFoundException

from airflow_ops.cluster import lease
from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import TRY_AGAIN, out
from airflow_ops.console import table as new_table
from support.live_environment import OPS, lease_holder, ops, target, wait_for
from support.metadata_superuser import sql

pytestmark = pytest.mark.destructive

PASSWORD = "survives every rotation"  # noqa: S105
CONNECTION = ConnectionBody(connection_id="e2e_killed", conn_type="generic", password=PASSWORD)
MARK = "e2e_killed_after_the_backup"
MOST_RUNS = 40
INTO_A_STEP = 2.0
"""Seconds from what a command says to SIGKILL; after the `ok` of a step it is sent at once, before the next one."""


@dataclass
class Runs:
    """What the runs of one command said and how they ended.

    Attributes:
        cluster: The environment.
        said: Each line that was said, without numbers and generated names.
        ends: The line after which each killed run was killed; the last one ended by itself.
        last: Everything that the last one said.
    """

    cluster: Cluster
    said: set[str] = field(default_factory=set)
    ends: list[str] = field(default_factory=list)
    last: str = ""

    def run(self, *arguments: str) -> None:
        """Run a command and kill it at each new line, until it ends by itself; it must succeed."""
        for number in range(MOST_RUNS):
            if self._run_once(arguments):
                return
            if number:
                # It ends by itself half a minute after its holder, as the run after the first kill has seen.
                self.cluster.kubectl("delete", "lease", lease.NAME, "--ignore-not-found")
        raise AssertionError(f"{arguments} does not end: {self.ends}")

    def _run_once(self, arguments: tuple[str, ...]) -> bool:
        lines: list[str] = []
        process = subprocess.Popen(
            [OPS, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                lines.append(line)
                step = re.sub(r"\S*\d\S*", "N", line).strip()
                if step and step not in self.said:
                    self.said.add(step)
                    time.sleep(0 if step.startswith("ok") else INTO_A_STEP)
                    if process.poll() is None:
                        process.send_signal(signal.SIGKILL)
                    break
        self.last = "".join(lines)
        if process.returncode == -signal.SIGKILL:
            self.ends.append(lines[-1].strip())
            print(f"killed after: {self.ends[-1]}", flush=True)
            return False
        assert process.returncode == 0, self.last
        return True

    def report(self, name: str) -> None:
        """Print a table of step and outcome."""
        rows = new_table(name, "killed after", "the next run")
        for number, end in enumerate(self.ends, 1):
            rows.add_row(str(number), end[:90], "goes on")
        rows.add_row("", "not killed", "ends well")
        out.print(rows)


def password_in_a_component(cluster: Cluster) -> str:
    """The connection's password, decrypted by the API server with its present key."""
    command = ("airflow", "connections", "get", "e2e_killed", "--output", "json")
    said = cluster.kubectl("exec", "deployment/airflow-blue-api-server", "--", *command)
    found: str = json.loads(said[said.index("[") :])[0]["password"]
    return found


@pytest.fixture
def connection(cluster: Cluster) -> Iterator[None]:
    """A connection with a password; each login is a new one, because the pod of the one before may be gone."""
    with login(cluster) as client:
        with contextlib.suppress(NotFoundException):
            ConnectionApi(client).delete_connection("e2e_killed")
        ConnectionApi(client).post_connection(CONNECTION)
    yield
    with login(cluster) as client:
        ConnectionApi(client).delete_connection("e2e_killed")


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("kind", ["fernet", "api", "database"])
def test_a_rotation_killed_at_each_step_ends_well(cluster: Cluster, kind: str) -> None:
    secret = {"fernet": "airflow-fernet", "api": "airflow-api", "database": "airflow-metadata"}[kind]
    before = cluster.secret(secret)
    runs = Runs(cluster)
    runs.run("rotate", kind, *target(cluster))
    runs.report(f"rotate {kind}")
    after = cluster.secret(secret)
    assert before is not None
    assert after is not None
    assert after.keys() == before.keys()
    assert after != before
    assert password_in_a_component(cluster) == PASSWORD
    assert ops("smoke", *target(cluster)).returncode == 0


def test_a_deploy_killed_at_each_step_ends_well(cluster: Cluster) -> None:
    secrets = {s.metadata.name: s.data for s in cluster.core.list_namespaced_secret(cluster.namespace).items}
    runs = Runs(cluster)
    runs.run("deploy", *target(cluster))
    runs.report("deploy")
    assert "tasks of platform_run_canary succeeded" in runs.last
    for name, data in secrets.items():
        if not name.startswith("sh.helm.release"):
            assert cluster.core.read_namespaced_secret(name, cluster.namespace).data == data, name
    history = json.loads(subprocess.check_output(helm_history(cluster), text=True))
    assert history[-1]["status"] == "deployed", history


def helm_history(cluster: Cluster) -> list[str]:
    where = ["--kube-context", cluster.context, "--namespace", cluster.namespace]
    return ["helm", "history", "airflow-blue", *where, "--output", "json"]


@pytest.fixture
def without_former_databases(cluster: Cluster) -> Iterator[None]:
    yield
    for name in former_databases(cluster):
        sql(cluster, f"DROP DATABASE {name}")


def former_databases(cluster: Cluster) -> list[str]:
    return sql(cluster, r"SELECT datname FROM pg_database WHERE datname LIKE 'airflow\_before\_%'").split()


@pytest.mark.usefixtures("without_former_databases", "connection")
def test_a_restore_killed_at_each_step_ends_well(cluster: Cluster) -> None:
    made = ops("backup", *target(cluster), "--json")
    assert made.returncode == 0, made.stderr
    backup = json.loads(made.stdout)["name"]
    with login(cluster) as client:
        VariableApi(client).post_variable(VariableBody(key=MARK, value="1"))
    runs = Runs(cluster)
    runs.run("restore", *target(cluster), backup, "--discard-newer-runs")
    runs.report("restore")
    assert "tasks of platform_run_canary succeeded" in runs.last
    assert password_in_a_component(cluster) == PASSWORD
    query = f"SELECT count(*) FROM variable WHERE key = '{MARK}'"  # noqa: S608 a constant
    assert sql(cluster, query, "airflow").strip() == "0", "the backup is in place"
    former = [sql(cluster, query, name).strip() for name in former_databases(cluster)]
    assert former.count("1") == 1, f"what was there before is kept, once: {former}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("restore", "{target}", "--discard-newer-runs"), ("deploy", "{target}")),
        (("deploy", "{target}"), ("rotate", "fernet", "{target}")),
        (("rotate", "fernet", "{target}"), ("restore", "{target}")),
        (("deploy", "{target}"), ("deploy-dags", "{target}", "HEAD")),
    ],
    ids=["deploy-during-restore", "rotate-during-deploy", "restore-during-rotate", "deploy-dags-during-deploy"],
)
def test_the_second_of_two_is_refused_and_told_of_the_first(
    cluster: Cluster, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    def words(command: tuple[str, ...]) -> list[str]:
        return [word for part in command for word in (target(cluster) if part == "{target}" else [part])]

    if "restore" in (first[0], second[0]):
        assert ops("backup", *target(cluster)).returncode == 0
    wait_for("the end of other operations", lambda: not lease_holder(cluster), 60)
    one = subprocess.Popen([OPS, *words(first)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        identity = wait_for("the Lease of the first", lambda: lease_holder(cluster), 120)
        other = ops(*words(second))
        said = " ".join(other.stderr.split())
        assert other.returncode == TRY_AGAIN, other.stdout + said
        assert f"{first[0]}" in said
        assert f"by {identity} since" in said
        assert lease_holder(cluster) == identity
    finally:
        one.wait()
    assert one.returncode == 0, "the first is not disturbed"
