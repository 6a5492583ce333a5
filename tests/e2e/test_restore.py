"""A database that is gone comes back from object storage as it was when it was backed up, and runs the canary."""

import json
from collections.abc import Iterator

import pytest
from airflow_client.client import ConnectionApi, ConnectionBody, VariableApi, VariableBody
from airflow_client.client.exceptions import NotFoundException

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster
from support.live_environment import Airflow, ops, target
from support.metadata_superuser import sql

pytestmark = pytest.mark.destructive

CONNECTION = ConnectionBody(connection_id="e2e_restored", conn_type="http", password="encrypted", extra='{"a": "b"}')  # noqa: S106
MARK = "e2e_after_the_backup"


@pytest.fixture
def without_former_databases(cluster: Cluster) -> Iterator[None]:
    yield
    for name in sql(cluster, r"SELECT datname FROM pg_database WHERE datname LIKE 'airflow\_before\_%'").split():
        sql(cluster, f"DROP DATABASE {name}")


@pytest.mark.usefixtures("without_former_databases")
def test_a_dropped_database_comes_back(cluster: Cluster, airflow: Airflow, capsys: pytest.CaptureFixture[str]) -> None:
    ConnectionApi(airflow.client).post_connection(CONNECTION)
    made = ops("backup", *target(cluster), "--json")
    assert made.returncode == 0, made.stderr
    backup = json.loads(made.stdout)["name"]
    listed = ops("backup", *target(cluster), "--list", "--json")
    assert {each["name"]: each["unauthenticated"] for each in json.loads(listed.stdout)}[backup] == ""
    VariableApi(airflow.client).post_variable(VariableBody(key=MARK, value="1"))
    airflow.trigger("platform_run_canary")

    refused = ops("restore", *target(cluster), backup)
    assert refused.returncode == 1
    # The canary's, and perhaps one of a DAG that is scheduled.
    assert "DAG runs that were made after" in " ".join(refused.stderr.split())
    assert VariableApi(airflow.client).get_variable(MARK).value == "1", "nothing was changed"

    sql(cluster, "DROP DATABASE airflow WITH (FORCE)")
    restored = ops("restore", *target(cluster))
    assert restored.returncode == 0, restored.stderr
    assert f"restored dev from {backup}" in restored.stdout
    assert "tasks of platform_run_canary succeeded" in restored.stdout
    with capsys.disabled():
        print("\n" + restored.stdout)

    with login(cluster) as client:
        with pytest.raises(NotFoundException):
            VariableApi(client).get_variable(MARK)
        assert ConnectionApi(client).get_connection("e2e_restored").conn_type == "http"
        ConnectionApi(client).delete_connection("e2e_restored")
