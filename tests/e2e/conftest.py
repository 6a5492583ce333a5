"""A cluster with the dev environment on it; `make e2e` runs these on whatever KUBECONFIG points at."""

import shutil
import subprocess
import threading
from collections.abc import Iterator

import pytest
from pytest_helm_charts.clusters import Cluster as HelmChartsCluster

from airflow_ops.cluster.airflow_api import login
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.deployment.dag_push import push_arguments
from airflow_ops.environments.environment import Environment
from airflow_ops.paths import ROOT
from support.live_environment import Airflow, DagRepository, WorkerPods, has_prometheus_operator, ops, target


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--destructive", action="store_true", help="Also drop the metadata database and change the keys of dev."
    )
    parser.addoption(
        "--upgrade-faults", action="store_true", help="Also upgrades that fail in the middle, and with a migration."
    )
    parser.addoption("--argocd", action="store_true", help="Also dev by Argo CD, which the cluster must run.")
    parser.addoption(
        "--add-rehearsal", action="store_true", help="Add what the migration measured to docs/compatibility.md."
    )


WITHOUT = {
    "destructive": "it drops the database or changes keys: make e2e ARGS=--destructive",
    "argocd": "it deletes dev, and needs Argo CD: make e2e-argocd",
    "upgrade_faults": "it takes long, or deletes dev: make e2e-upgrade",
}
"""Marks of the tests that run only with the option of the same name, and why they are skipped without it."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for mark, reason in WITHOUT.items():
            if item.get_closest_marker(mark) and not config.getoption(f"--{mark.replace('_', '-')}"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def connected() -> Cluster:
    """Dev as all tests deploy it: with monitoring where the cluster has the operator for it."""
    monitoring = ["monitoring"] if has_prometheus_operator(connect(Environment.load("dev"))) else []
    return connect(Environment.load("dev", [*monitoring, "e2e"]))


@pytest.fixture(scope="session")
def deployed(connected: Cluster) -> subprocess.CompletedProcess[str]:
    done = ops("deploy", *target(connected))
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def cluster(kube_cluster: HelmChartsCluster, connected: Cluster, deployed: subprocess.CompletedProcess[str]) -> Cluster:
    assert kube_cluster.kube_client is not None
    return connect(connected.environment)


@pytest.fixture(scope="module")
def airflow(cluster: Cluster) -> Iterator[Airflow]:
    with login(cluster) as client:
        yield Airflow(client, cluster)


@pytest.fixture(scope="module")
def dag_repository(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagRepository]:
    folder = tmp_path_factory.mktemp("dags") / "repository"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    ref = cluster.environment.values["global"]["dagBundle"]["trackingRef"]
    yield DagRepository(folder, cluster, ref)
    subprocess.run(
        ["git", *push_arguments(cluster, f"HEAD:refs/heads/{ref}")], cwd=ROOT, check=True, capture_output=True
    )
    shutil.rmtree(folder)


@pytest.fixture
def worker_pods(cluster: Cluster) -> Iterator[WorkerPods]:
    pods = WorkerPods()
    thread = threading.Thread(target=pods.follow, args=(connect(cluster.environment),), daemon=True)
    thread.start()
    yield pods
    pods.stopped.set()
    thread.join(timeout=20)
