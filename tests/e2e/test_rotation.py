"""Keys and the database's password are changed under a running and a deferred task: neither notices."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from airflow_client.client import (
    ConnectionApi,
    ConnectionBody,
    TaskInstanceApi,
    VariableApi,
    VariableBody,
)
from airflow_client.client.exceptions import NotFoundException

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.deployment.smoke import CANARY
from airflow_ops.paths import ROOT
from support.live_environment import Airflow, DagRepository, ops, target, wait_for

pytestmark = pytest.mark.destructive

DAG = "e2e_outlive_rotation"
TASKS = ("work", "deferred")
LIFETIME = {"AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "90", "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "90"}
"""Seconds that tokens live, so that the wait for the last old one is short. What is waited for is the same."""
SIGNERS = ("deployment/airflow-blue-api-server", "deployment/airflow-blue-scheduler")


@pytest.fixture(scope="module")
def short_tokens(cluster: Cluster) -> Iterator[None]:
    _set_environment(cluster, *(f"{name}={value}" for name, value in LIFETIME.items()))
    yield
    _set_environment(cluster, *(f"{name}-" for name in LIFETIME))


def _set_environment(cluster: Cluster, *changes: str) -> None:
    cluster.kubectl("set", "env", *SIGNERS, *changes)
    for name in SIGNERS:
        cluster.kubectl("rollout", "status", name, "--timeout=300s")


def _create(airflow: Airflow) -> None:
    """A connection and a variable, both encrypted."""
    _delete(airflow)
    body = ConnectionBody(connection_id="e2e_rotation", conn_type="generic", password="before the rotation")  # noqa: S106
    ConnectionApi(airflow.client).post_connection(body)
    VariableApi(airflow.client).post_variable(VariableBody(key="e2e_rotation_end", value="no"))


def _delete(airflow: Airflow) -> None:
    with contextlib.suppress(NotFoundException):
        ConnectionApi(airflow.client).delete_connection("e2e_rotation")
    with contextlib.suppress(NotFoundException):
        VariableApi(airflow.client).delete_variable("e2e_rotation_end")


def _rotate(cluster: Cluster, kind: str) -> None:
    done = ops("rotate", kind, *target(cluster))
    assert done.returncode == 0, f"{kind}: {done.stdout}{done.stderr}"
    print(done.stdout)


@pytest.mark.usefixtures("short_tokens")
def test_keys_change_under_a_running_and_a_deferred_task(cluster: Cluster, dag_repository: DagRepository) -> None:
    before = {name: cluster.secret(name) for name in ("airflow-fernet", "airflow-jwt", "airflow-api")}
    with login(cluster) as client:
        airflow = Airflow(client, cluster)
        _create(airflow)
        commit = dag_repository.push({f"dags/platform/{DAG}.py": (ROOT / f"tests/e2e/dags/{DAG}.py").read_text()})
        wait_for("the DAG", lambda: airflow.serves(DAG, commit), 120)
        airflow.unpause(DAG)
        run = airflow.trigger(DAG)
        wait_for("the running task", lambda: airflow.task_state(DAG, run, "work") == "running")
        wait_for("the deferred task", lambda: airflow.task_state(DAG, run, "deferred") == "deferred")
    for kind in ("fernet", "jwt", "api"):
        _rotate(cluster, kind)
    # The forwarded pod and the token of the login above are gone: whoever logs in now gets new ones.
    with login(cluster) as client:
        airflow = Airflow(client, cluster)
        assert airflow.task_state(DAG, run, "work") == "running", "it was there all the time"
        VariableApi(client).patch_variable("e2e_rotation_end", VariableBody(key="e2e_rotation_end", value="yes"))
        assert airflow.wait_for_end(DAG, run) == "success"
        for task in TASKS:
            assert TaskInstanceApi(client).get_task_instance(DAG, run, task).try_number == 1, task
        worked = airflow.result(DAG, run, "work")
        assert worked["seconds"] >= 180
        print(worked)
        _delete(airflow)
    for name, content in before.items():
        after = cluster.secret(name)
        assert after is not None
        assert content is not None
        assert after.keys() == content.keys()
        assert all(after[key] != content[key] for key in after), name


def test_the_databases_login_changes_while_the_canary_runs(cluster: Cluster) -> None:
    before = _login(cluster)
    begun = datetime.now(UTC)
    with login(cluster) as client:
        runs = [Airflow(client, cluster).trigger(CANARY) for _ in range(2)]
    _rotate(cluster, "database")
    after = _login(cluster)
    assert after != before
    with login(cluster) as client:
        for run in runs:
            assert Airflow(client, cluster).wait_for_end(CANARY, run) == "success"
    log = cluster.log("airflow-database-0", since_seconds=int((datetime.now(UTC) - begun).total_seconds()) + 1)
    assert "FATAL" not in log, "every connection that was asked for was given"
    assert _enters(cluster, after)
    assert not _enters(cluster, before), "the old login is of no use"


def _login(cluster: Cluster) -> str:
    content = cluster.secret("airflow-metadata")
    assert content is not None
    return content["connection-direct"]


def _enters(cluster: Cluster, url: str) -> bool:
    """Whether a URL's login is let in, by the database's pod itself.

    It asks at its own address: its NetworkPolicy lets it reach nothing else, and on 127.0.0.1 the image asks for no
    password.
    """
    address = cluster.kubectl("get", "pod", "airflow-database-0", "--output", "jsonpath={.status.podIP}")
    plain = url.replace("postgresql+psycopg2://", "postgresql://").replace("@airflow-database:", f"@{address}:")
    assert address in plain
    pod = ("exec", "--stdin", "airflow-database-0", "--container", "postgres", "--")
    try:
        return cluster.kubectl(*pod, "bash", "-c", 'psql -qAt "$(cat)" -c "SELECT 1"', stdin=plain).strip() == "1"
    except ProblemError:
        return False
