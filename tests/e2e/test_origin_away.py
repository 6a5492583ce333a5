"""With the origin of the DAGs away for five minutes tasks go on: the mirror serves them."""

import time

from airflow_ops.cluster.connection import Cluster
from support.live_environment import Airflow, wait_for

AWAY_SECONDS = 300
CANARY = "platform_run_canary"


def test_tasks_go_on_while_the_origin_is_away(airflow: Airflow, cluster: Cluster) -> None:
    cluster.kubectl("scale", "statefulset/airflow-git-origin", "--replicas=0")
    try:
        wait_for("the origin's end", lambda: not _origin_pods(cluster))
        end = time.monotonic() + AWAY_SECONDS
        runs = 0
        while time.monotonic() < end:
            assert airflow.wait_for_end(CANARY, airflow.trigger(CANARY)) == "success"
            runs += 1
        assert runs >= 3
        assert not _origin_pods(cluster)
    finally:
        cluster.kubectl("scale", "statefulset/airflow-git-origin", "--replicas=1")
        cluster.kubectl("rollout", "status", "statefulset/airflow-git-origin", "--timeout=100s")


def _origin_pods(cluster: Cluster) -> list[str]:
    pods = cluster.core.list_namespaced_pod(cluster.namespace, label_selector="app.kubernetes.io/component=git-origin")
    return [pod.metadata.name for pod in pods.items]
