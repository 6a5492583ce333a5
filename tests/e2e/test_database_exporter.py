"""The exporter of the metadata database on the cluster: what it exports while all is well, and while a task waits."""

import csv
import re
from collections.abc import Iterator

import pytest
from airflow_client.client import DagRunApi, DagRunMutableStates, DAGRunPatchBody, PoolApi, PoolPatchBody

from airflow_ops.cluster.connection import Cluster
from airflow_ops.paths import ROOT
from support.live_environment import Airflow, has_prometheus_operator, wait_for

DAG, POOL = "platform_run_canary", "default_pool"
HEARTBEATS = "airflow_database_job_heartbeat_age_seconds{"
HELD = 'airflow_database_task_instance_oldest_seconds{state="scheduled"}'


@pytest.fixture(scope="module", autouse=True)
def exporter(cluster: Cluster) -> None:
    if not has_prometheus_operator(cluster):
        pytest.skip("this cluster has no Prometheus operator: the exporter is where monitoring is")


@pytest.fixture
def closed_pool(airflow: Airflow) -> Iterator[None]:
    """The pool without a slot, and as it was afterwards."""
    pools = PoolApi(airflow.client)
    before = pools.get_pool(POOL)

    def slots(number: int) -> None:
        body = PoolPatchBody(pool=POOL, slots=number, include_deferred=before.include_deferred)
        pools.patch_pool(POOL, body, update_mask=["slots"])

    slots(0)
    yield
    slots(before.slots)


def scrape(cluster: Cluster) -> dict[str, float]:
    """Series to value, as Prometheus gets them, by the Service."""
    path = f"/api/v1/namespaces/{cluster.namespace}/services/airflow-database-exporter:metrics/proxy/metrics"
    text = cluster.kubectl("get", "--raw", path)
    return {name: float(value) for name, value in re.findall(r"^(airflow_\S+) (\S+)$", text, re.MULTILINE)}


def test_every_metric_of_the_list_is_in_a_scrape(cluster: Cluster) -> None:
    with (ROOT / "charts/platform/files/metrics/metrics.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["metric"].startswith("airflow_database_")]
    found = scrape(cluster)
    names = {series.partition("{")[0] for series in found}
    assert {row["metric"] for row in rows if row["event"] == "-"} <= names <= {row["metric"] for row in rows}
    failed = [series for series, value in found.items() if "query_success" in series and value != 1]
    assert not failed


def test_the_heartbeats_of_a_healthy_environment_are_young(cluster: Cluster) -> None:
    def ages() -> list[float]:
        return [age for name, age in scrape(cluster).items() if name.startswith(HEARTBEATS)]

    assert len(ages()) == 3
    # A DAG processor may write its own between two files only.
    wait_for("a young heartbeat of each component", lambda: max(ages()) < 30, 120)


@pytest.mark.usefixtures("closed_pool")
def test_a_task_that_is_held_back_grows_older(cluster: Cluster, airflow: Airflow) -> None:
    run = airflow.trigger(DAG)
    try:
        first = wait_for("a task that waits for the pool", lambda: scrape(cluster)[HELD])
        found = wait_for("its age to grow", lambda: s if (s := scrape(cluster))[HELD] > first + 5 else {}, 60)
        assert found['airflow_database_task_instances{state="scheduled"}'] >= 1
        assert found['airflow_database_dag_runs{state="running"}'] >= 1
        assert airflow.state(DAG, run) == "running"
    finally:
        # Airflow deletes no run that is going on.
        DagRunApi(airflow.client).patch_dag_run(DAG, run, DAGRunPatchBody(state=DagRunMutableStates.FAILED))
        DagRunApi(airflow.client).delete_dag_run(DAG, run)
