"""Worker pods have the size that the DAG names and hold nothing secret; a run keeps the version it started with."""

import contextlib
import time
from pathlib import Path

import pytest
import yaml
from airflow_client.client import PoolApi, PoolBody, PoolPatchBody
from airflow_client.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity

from airflow_ops.cluster.connection import Cluster
from airflow_ops.paths import DAGS
from support.live_environment import Airflow, DagRepository, WorkerPods, wait_for

DAG = "e2e_show_version"
SIZES = ["small", "default", "scratch"]
VISIBLE_SECONDS = 60


@pytest.fixture(scope="module")
def gate(airflow: Airflow) -> None:
    """Close the pool in which the second task of a run waits."""
    with contextlib.suppress(ApiException):  # there from an earlier run of the tests
        PoolApi(airflow.client).post_pool(PoolBody(name="e2e_gate", slots=0))
    PoolApi(airflow.client).patch_pool("e2e_gate", PoolPatchBody(pool="e2e_gate", slots=0, include_deferred=False))


def open_gate(airflow: Airflow) -> None:
    PoolApi(airflow.client).patch_pool("e2e_gate", PoolPatchBody(pool="e2e_gate", slots=1, include_deferred=False))


@pytest.mark.usefixtures("gate")
def test_from_push_to_run_and_a_run_keeps_its_version(
    airflow: Airflow, dag_repository: DagRepository, worker_pods: WorkerPods, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed = time.monotonic()
    one = dag_repository.push_version("one")
    wait_for("the DAG of the first push", lambda: airflow.serves(DAG, one), VISIBLE_SECONDS)
    visible = time.monotonic() - pushed
    airflow.unpause(DAG)
    run = airflow.trigger(DAG)
    wait_for("the first task", lambda: airflow.task_state(DAG, run, "first") == "success")
    with capsys.disabled():
        print(
            f"\nfrom push to visible: {visible:.0f} s, to the end of the first task: {time.monotonic() - pushed:.0f} s"
        )

    two = dag_repository.push_version("two", rewrite=True)
    wait_for("the second version", lambda: airflow.serves(DAG, two), VISIBLE_SECONDS)
    open_gate(airflow)
    assert airflow.wait_for_end(DAG, run) == "success"
    assert airflow.result(DAG, run, "first") == "one"
    assert airflow.result(DAG, run, "second") == "one", "the commit that the force-push took away still serves the run"

    later = airflow.trigger(DAG)
    assert airflow.wait_for_end(DAG, later) == "success"
    assert airflow.result(DAG, later, "second") == "two"
    check_sizes(worker_pods)
    check_no_secret(airflow, later, worker_pods)


def check_sizes(worker_pods: WorkerPods) -> None:
    wanted = yaml.safe_load(Path(DAGS / "config/sizes.yaml").read_text())
    for size in SIZES:
        pods = worker_pods.of_task(f"look_{size}")
        assert pods, size
        for pod in pods:
            assert pod.metadata.labels["size"] == size
            resources = pod.spec.containers[0].resources
            for kind in ("requests", "limits"):
                found = {name: parse_quantity(amount) for name, amount in getattr(resources, kind).items()}
                assert found == {name: parse_quantity(amount) for name, amount in wanted[size][kind].items()}, (
                    size,
                    kind,
                )


def check_no_secret(airflow: Airflow, run: str, worker_pods: WorkerPods) -> None:
    cluster: Cluster = airflow.cluster
    secrets = [
        value
        for name in (
            "airflow-metadata",
            "airflow-metadata-dag-code",
            "airflow-metadata-reader",
            "airflow-fernet",
            "airflow-jwt",
            "airflow-api",
            "airflow-database",
        )
        for value in (cluster.secret(name) or {}).values()
    ]
    assert len(secrets) >= 5
    for size in SIZES:
        looked = airflow.result(DAG, run, f"look_{size}")
        for key, value in looked["configuration"].items():
            assert not any(secret in value for secret in secrets), f"{key} can be read in a worker of size {size}"
    for pod in worker_pods.seen.values():
        assert pod.spec.automount_service_account_token is False
        named = {e.secret_ref.name for c in pod.spec.containers for e in c.env_from or [] if e.secret_ref}
        assert named <= {"airflow-git", "airflow-connections"}, pod.metadata.name
        assert not any(e.value_from and e.value_from.secret_key_ref for c in pod.spec.containers for e in c.env or [])
