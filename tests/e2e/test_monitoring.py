"""The release before a real operator and its Prometheus: rules and monitors are taken, see, and fire alone."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow_client.client import PoolApi, PoolBody
from airflow_client.client.exceptions import ApiException

from airflow_ops.cluster.connection import Cluster
from airflow_ops.monitoring import prometheus
from airflow_ops.monitoring.alerts import RULES
from airflow_ops.monitoring.live_rules import LiveRule, check_rules, rules_of
from airflow_ops.monitoring.prometheus import Prometheus
from support.live_environment import Airflow, DagRepository, has_prometheus_operator, wait_for

DAGS = Path(__file__).parent / "dags"
BROKEN = '"""An airflow dag of the e2e tests that cannot be imported."""\n\nimport a_module_that_nobody_has\n'
NOT_PRODUCED = {
    "a trigger that blocks",
    "a worker pod that is refused",  # by test_admission.py
    "a run without a task to wait for",  # half an hour of it
    # What the cluster has to have, and dev does not use.
    "an environment with PgBouncer",
    "a mounted volume whose driver reports its use",  # a folder of the node, as kind gives, reports none
    "a cluster with cert-manager",
    "a Probe of the blackbox exporter",
    "a cluster with External Secrets",
}
"""Events of metrics.tsv and events.tsv that this test does not bring about."""


@pytest.fixture(scope="module")
def live(cluster: Cluster) -> Iterator[Prometheus]:
    if not has_prometheus_operator(cluster) or not prometheus.Operator(cluster).prometheuses():
        pytest.skip("this cluster has no Prometheus operator with a Prometheus: nothing is seen of metrics and alerts")
    with prometheus.connect(cluster) as found:
        yield found


def rules_now(live: Prometheus, cluster: Cluster) -> list[LiveRule]:
    written = [path.read_text() for path in sorted(RULES.glob("*.yaml"))]
    return check_rules(live, cluster.namespace, rules_of(cluster.namespace, written))


@contextlib.contextmanager
def fires_alone(live: Prometheus, cluster: Cluster, alert: str, seconds: float) -> Iterator[None]:
    """Whatever is done in the block makes one alert fire, and no other."""
    wait_for(f"the end of an earlier {alert}", lambda: alert not in live.firing(cluster.namespace), 120)
    before = live.firing(cluster.namespace)
    yield
    wait_for(alert, lambda: alert in live.firing(cluster.namespace), seconds)
    assert live.firing(cluster.namespace) - before == {alert}


def falls_silent(live: Prometheus, cluster: Cluster, alert: str) -> None:
    wait_for(f"the end of {alert}", lambda: alert not in live.firing(cluster.namespace), 180)


def test_every_rule_is_taken_and_healthy(live: Prometheus, cluster: Cluster) -> None:
    wait_for("every rule", lambda: all(rule.loaded and not rule.error for rule in rules_now(live, cluster)), 120)
    mine = [rule for rule in live.rules() if f'"{cluster.namespace}"' in rule["query"]]
    assert len(mine) >= 39
    wait_for("healthy rules", lambda: all(rule["health"] == "ok" for rule in mine_of(live, cluster)), 60)


def mine_of(live: Prometheus, cluster: Cluster) -> list[dict[str, str]]:
    return [rule for rule in live.rules() if f'"{cluster.namespace}"' in rule["query"]]


def test_every_exporter_is_scraped(live: Prometheus, cluster: Cluster) -> None:
    def up() -> dict[str, str]:
        found = [one for one in live.targets() if one["labels"].get("namespace") == cluster.namespace]
        return {one["labels"]["job"]: one["health"] for one in found}

    wait_for("the exporter's first scrape", lambda: up().get("airflow-blue-statsd") == "up", 60)
    assert set(up().values()) == {"up"}


def test_a_broken_dag_fires_its_alert_alone(
    live: Prometheus, cluster: Cluster, airflow: Airflow, dag_repository: DagRepository
) -> None:
    name = "dags/platform/e2e_broken.py"
    try:
        with fires_alone(live, cluster, "AirflowDagImportErrors", 180):
            dag_repository.push({name: BROKEN})
    finally:
        dag_repository.push({name: None})
    falls_silent(live, cluster, "AirflowDagImportErrors")


def test_a_full_pool_fires_its_alert_alone(
    live: Prometheus, cluster: Cluster, airflow: Airflow, dag_repository: DagRepository
) -> None:
    pools = PoolApi(airflow.client)
    with contextlib.suppress(ApiException):  # there from an earlier run of the tests
        pools.post_pool(PoolBody(name="e2e_one_slot", slots=1))
    run = start(airflow, dag_repository, "e2e_hold_slot")
    try:
        with fires_alone(live, cluster, "AirflowPoolFull", 240):
            pass
    finally:
        take_pod_away(cluster, "e2e_hold_slot")
        assert airflow.wait_for_end("e2e_hold_slot", run) == "failed"
    falls_silent(live, cluster, "AirflowPoolFull")
    pools.delete_pool("e2e_one_slot")


def start(airflow: Airflow, dag_repository: DagRepository, dag_id: str) -> str:
    commit = dag_repository.push({f"dags/platform/{dag_id}.py": (DAGS / f"{dag_id}.py").read_text()})
    wait_for(dag_id, lambda: airflow.serves(dag_id, commit), 120)
    airflow.unpause(dag_id)
    return airflow.trigger(dag_id)


def take_pod_away(cluster: Cluster, dag_id: str) -> None:
    """As a node does that is lost: without a word to the task."""
    cluster.kubectl("delete", "pod", "-l", f"dag_id={dag_id}", "--grace-period=0", "--force")


def test_no_scheduler_fires_its_alert_alone(live: Prometheus, cluster: Cluster) -> None:
    scheduler = "deployment/airflow-blue-scheduler"
    try:
        with fires_alone(live, cluster, "AirflowSchedulerDown", 300):
            cluster.kubectl("scale", scheduler, "--replicas=0")
    finally:
        cluster.kubectl("scale", scheduler, "--replicas=1")
        cluster.kubectl("rollout", "status", scheduler, "--timeout=300s")
    falls_silent(live, cluster, "AirflowSchedulerDown")


def test_every_metric_and_label_of_a_rule_is_in_the_scrape(
    live: Prometheus, cluster: Cluster, airflow: Airflow, dag_repository: DagRepository
) -> None:
    """With the events that the tests above brought about: a worker pod that is deleted, an import error."""
    runs = {dag_id: start(airflow, dag_repository, dag_id) for dag_id in ("e2e_fall_silent", "e2e_fail_late")}
    for dag_id, task_id in (("platform_run_canary", "verify"), ("platform_check_health", "check")):
        runs[dag_id] = airflow.trigger(dag_id)
        airflow.end_as_failed(dag_id, runs[dag_id], task_id)
    ends = {dag_id: airflow.wait_for_end(dag_id, run) for dag_id, run in runs.items()}
    assert set(ends.values()) == {"failed"}, ends

    def lacking() -> list[str]:
        unseen = [one for rule in rules_now(live, cluster) for one in rule.unseen]
        return sorted(
            {
                f"{one.why}: {one.selector}"
                for one in unseen
                if one.event not in NOT_PRODUCED and not one.selector.startswith("kube_")
            }
        )

    with contextlib.suppress(AssertionError):
        wait_for("every metric", lambda: not lacking(), 120)
    assert lacking() == []


def test_every_metric_of_kube_state_metrics_is_in_the_scrape(live: Prometheus, cluster: Cluster) -> None:
    if not live.query("count(kube_pod_info)"):
        pytest.skip(
            "this cluster's Prometheus scrapes no kube-state-metrics: rules on pods, quota and Jobs are not seen"
        )
    blind = {one for rule in rules_now(live, cluster) for one in rule.missing}
    assert not [one for one in blind if one.selector.startswith("kube_")]
