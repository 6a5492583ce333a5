"""Deploying, again, and what is refused before anything changes."""

import signal
import subprocess
from typing import Any

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import TRY_AGAIN, ProblemError
from airflow_ops.deployment import preflight
from support.live_environment import OPS, lease_holder, ops, target, wait_for, with_values


def lasting_pods(cluster: Cluster) -> dict[str, tuple[str, int]]:
    """Uid and restarts of every pod that is meant to stay."""
    pods = cluster.core.list_namespaced_pod(cluster.namespace).items
    return {
        pod.metadata.name: (pod.metadata.uid, sum(s.restart_count for s in pod.status.container_statuses or []))
        for pod in pods
        if pod.metadata.owner_references and pod.metadata.owner_references[0].kind in ("ReplicaSet", "StatefulSet")
    }


def test_deploy_ends_with_a_canary_in_pods_of_our_templates(deployed: subprocess.CompletedProcess[str]) -> None:
    assert "tasks of platform_run_canary succeeded" in deployed.stdout
    assert "each from a template of pod_templates/" in deployed.stdout


def test_a_second_deploy_changes_nothing_and_restarts_nothing(cluster: Cluster) -> None:
    before = lasting_pods(cluster)
    secrets = {s.metadata.name: s.data for s in cluster.core.list_namespaced_secret(cluster.namespace).items}
    again = ops("deploy", *target(cluster))
    assert again.returncode == 0, again.stderr
    assert lasting_pods(cluster) == before
    for name, data in secrets.items():
        if not name.startswith("sh.helm.release"):
            assert cluster.core.read_namespaced_secret(name, cluster.namespace).data == data, name


def test_one_operation_runs_at_a_time_and_a_killed_one_is_followed(cluster: Cluster) -> None:
    wait_for("the end of other operations", lambda: not lease_holder(cluster), 60)
    first = subprocess.Popen([OPS, "deploy", *target(cluster)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        holder = wait_for("the Lease of the first deploy", lambda: lease_holder(cluster), 120)
        assert holder.endswith(f"/{first.pid}")
        second = ops("deploy", *target(cluster))
        assert second.returncode == TRY_AGAIN, second.stdout + second.stderr
        assert f"deploy by {holder} since" in " ".join(second.stderr.split())
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    third = ops("deploy", *target(cluster))
    assert third.returncode == 0, third.stdout + third.stderr
    assert f"{holder} since" in third.stderr
    assert "was not alive any more" in third.stderr
    assert not lease_holder(cluster), "it is given back at the end"


def test_what_is_deployed_is_what_is_rendered(cluster: Cluster) -> None:
    compared = ops("diff", *target(cluster), "--live")
    assert compared.returncode == 0, compared.stdout


def test_smoke_logs_in_with_the_secret_that_an_overlay_renames(cluster: Cluster) -> None:
    """The overlay e2e renames the users' Secret: a verb that read the values without it could not log in."""
    assert cluster.secret("airflow-users") is None
    again = ops("smoke", *target(cluster))
    assert again.returncode == 0, again.stderr


def test_another_environment_is_not_compared_with_this_cluster(cluster: Cluster) -> None:
    refused = ops("diff", "prod", "--live")
    assert refused.returncode == 2, refused.stdout
    assert f"context {cluster.context!r} is not a cluster of prod" in " ".join(refused.stderr.split())


def test_every_pod_runs_under_restricted_pod_security(cluster: Cluster) -> None:
    labels = cluster.core.read_namespace(cluster.namespace).metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_an_environment_is_not_deployed_to_another_ones_cluster(cluster: Cluster) -> None:
    refused = ops("deploy", "prod")
    assert refused.returncode == 2
    assert f"context {cluster.context!r} is not a cluster of prod" in refused.stderr
    namespaces = [n.metadata.name for n in cluster.core.list_namespace().items]
    assert "airflow-prod" not in namespaces


def test_a_missing_secret_is_named(cluster: Cluster) -> None:
    from airflow_ops.manifests.objects import render_environment

    without_generated = with_values(cluster, {"platform": {"secrets": {"mode": "existing"}}})
    preflight.check_secrets(without_generated, render_environment(cluster.environment))
    broken = [m for m in render_environment(cluster.environment) if m.kind == "Deployment"]
    for manifest in broken:
        _rename_secret(manifest.object, "airflow-metadata", "airflow-elsewhere")
    with pytest.raises(ProblemError, match="has no Secret airflow-elsewhere"):
        preflight.check_secrets(without_generated, broken)


def _rename_secret(node: Any, old: str, new: str) -> None:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if value == old:
            node[key] = new
        else:
            _rename_secret(value, old, new)


def test_an_image_that_cannot_be_pulled_is_reported_before_anything_changes(cluster: Cluster) -> None:
    changed = with_values(cluster, {"global": {"image": {"tag": "does-not-exist"}}})
    with pytest.raises(
        ProblemError, match=r"(?s)image .*:does-not-exist does not work.*(ErrImagePull|ImagePullBackOff)"
    ) as caught:
        preflight.probe_image(changed)
    assert "nothing was changed" in caught.value.fix


def test_an_image_without_the_auth_manager_is_reported(cluster: Cluster) -> None:
    changed = with_values(cluster, {"airflow": {"config": {"core": {"auth_manager": "no.such.Manager"}}}})
    with pytest.raises(ProblemError, match=r"no.such:Manager: ModuleNotFoundError"):
        preflight.probe_image(changed)


def test_a_database_that_does_not_answer_is_reported(cluster: Cluster) -> None:
    name = "e2e-unreachable-database"
    url = "postgresql+psycopg2://airflow:x@airflow-database:5999/airflow"
    cluster.kubectl("create", "secret", "generic", name, f"--from-literal=connection-direct={url}")
    try:
        changed = with_values(cluster, {"global": {"secrets": {"metadata": name}}})
        with pytest.raises(ProblemError, match=r"metadata database: .*port 5999 failed"):
            preflight.probe_image(changed)
    finally:
        cluster.kubectl("delete", "secret", name)
