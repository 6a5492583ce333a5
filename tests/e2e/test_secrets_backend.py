"""A task takes a connection from a secrets manager, by the identity of its pod; nothing in the pod shows it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow_client.client import ConnectionApi, ConnectionBody

from airflow_ops.cluster.connection import Cluster
from airflow_ops.environments.environment import Environment
from airflow_ops.paths import ROOT
from support.live_environment import Airflow, DagRepository, WorkerPods, wait_for

DAG = "e2e_read_connection"
MOTO = "e2e-moto"
FROM_THE_TESTS = ("moto", "responses", "xmltodict", "flask-cors", "py-partiql-parser", "antlr4-python3-runtime")
"""What moto's server needs and the image does not hold."""
PREFIX = "airflow/dev/connections"


def backend_variables() -> dict[str, str]:
    """What the overlay sets for workers, and what Amazon's webhook would add, with a server of the test's own."""
    workers = Environment.load("dev", ["aws", "secrets-aws"]).values["airflow"]["config"]["workers"]
    arguments = workers["secrets_backend_kwargs"].replace("{{ .Values.global.environment }}", "dev")
    return {
        "AIRFLOW__WORKERS__SECRETS_BACKEND": workers["secrets_backend"],
        "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS": json.dumps(json.loads(arguments)),
        # Of moto's own account: it keeps each account's secrets apart, as Amazon does.
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/airflow-dev",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": f"http://{MOTO}:5000",
    }


def copy_moto(cluster: Cluster) -> None:
    """Put moto into its pod from the packages of this environment."""
    names = set()
    for package in FROM_THE_TESTS:
        files = metadata.files(package) or []
        names |= {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}
    site = Path(str(metadata.distribution("moto").locate_file("")))
    packed = subprocess.run(
        ["tar", "--exclude=__pycache__", "-cz", *sorted(names)], cwd=site, capture_output=True, check=True
    )
    where = ["kubectl", "--context", cluster.context, "-n", cluster.namespace, "exec", "-i", MOTO, "--"]
    subprocess.run([*where, "tar", "-xzm", "--no-same-owner", "-C", "/moto"], input=packed.stdout, check=True)
    subprocess.run([*where, "touch", "/moto/complete"], check=True)


@pytest.fixture
def manager(cluster: Cluster) -> Iterator[Any]:
    """A client of the Secrets Manager that runs in the cluster."""
    assert sys.version_info[:2] == (3, 11), "the image's"
    manifests = (ROOT / "tests/e2e/moto.yaml").read_text().replace("@IMAGE@", Environment.load("dev").image)
    try:
        cluster.kubectl("apply", "-f", "-", stdin=manifests)
        started = ["--for=jsonpath={.status.phase}=Running", "--timeout=110s"]
        cluster.kubectl("wait", f"pod/{MOTO}", *started)
        copy_moto(cluster)
        cluster.kubectl("wait", f"pod/{MOTO}", "--for=condition=Ready", "--timeout=110s")
        with cluster.forward(MOTO, 5000) as url:
            keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
            yield boto3.client("secretsmanager", endpoint_url=url, region_name="eu-central-1", **keys)
    finally:
        selector = f"app.kubernetes.io/name={MOTO}"
        cluster.kubectl("delete", "pod,service,networkpolicy", "-l", selector, "--ignore-not-found", "--wait=false")


@pytest.fixture
def in_airflow(airflow: Airflow) -> Iterator[None]:
    """The same connection in Airflow's own database, and another one."""
    api = ConnectionApi(airflow.client)
    for name in ("e2e_in_both", "e2e_in_airflow"):
        api.post_connection(ConnectionBody(connection_id=name, conn_type="http", login="of airflow"))
    yield
    for name in ("e2e_in_both", "e2e_in_airflow"):
        api.delete_connection(name)


@pytest.mark.usefixtures("in_airflow")
def test_a_task_takes_a_connection_from_the_manager_and_no_pod_shows_it(
    airflow: Airflow, manager: Any, dag_repository: DagRepository, worker_pods: WorkerPods
) -> None:
    password = "not-in-any-environment"  # noqa: S105 of this test alone
    content = {"conn_type": "http", "login": "of the manager", "password": password}
    manager.create_secret(Name=f"{PREFIX}/e2e_in_both", SecretString=json.dumps(content))
    path = f"dags/platform/{DAG}.py"
    text = (ROOT / f"tests/e2e/dags/{DAG}.py").read_text().replace("@VARIABLES@", json.dumps(backend_variables()))
    commit = dag_repository.push({path: text})
    wait_for("the DAG", lambda: airflow.serves(DAG, commit), 120)
    airflow.unpause(DAG)
    run = airflow.trigger(DAG)
    assert airflow.wait_for_end(DAG, run) == "success"
    found = airflow.result(DAG, run, "read")

    assert found["logins"] == {
        "e2e_in_both": "of the manager",  # asked before Airflow
        "e2e_in_airflow": "of airflow",  # not in the manager: the next in order is asked
        "e2e_nowhere": None,
    }
    assert (found["passwords"], found["seen"]) == (1, [])
    assert found["environments"] >= 1, "the task's own"
    assert found["closed"] >= 1, "that of what supervises it, which Airflow keeps from the task"
    pods = worker_pods.of_task("read")
    assert pods
    assert not any(password in str(pod) for pod in pods)
    assert not any("AWS_SECRET_ACCESS_KEY" in str(pod) for pod in pods), "by identity, not by keys"
