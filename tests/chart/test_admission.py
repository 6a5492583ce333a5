"""What a task may ask for by executor_config: good and bad pods against the rendered policy."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import KubernetesExecutor
from kubernetes.client.exceptions import ApiException

from airflow_ops.environments.environment import Environment
from support.admission_pods import BAD, GOOD, refusals, refused_for, requested
from support.chart_rendering import Render, Rendered

SIZES = ["default", "scratch", "spot"]


def policy(environment: Rendered) -> dict[str, Any]:
    return environment.one("ValidatingAdmissionPolicy", f"airflow-{environment.environment}-worker-pods")


def scheduler(environment: Rendered, colour: str = "blue") -> str:
    return f"system:serviceaccount:airflow-{environment.environment}:airflow-{colour}-scheduler"


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_pod_passes(environment: Rendered, path: Any) -> None:
    for size in SIZES:
        pod = requested(environment.workers()[size], path.stem)
        assert refusals(policy(environment), pod, scheduler(environment)) == [], size


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_pod_is_refused_with_its_reason(environment: Rendered, path: Any) -> None:
    pod = requested(environment.workers()["default"], path.stem)
    for colour in ("blue", "green"):
        messages = refusals(policy(environment), pod, scheduler(environment, colour))
        assert any(refused_for(path.stem) in each for each in messages), messages


def test_every_rule_has_a_bad_pod(dev: Rendered) -> None:
    """A rule that refuses nothing would not be missed."""
    rules = policy(dev)["spec"]["validations"]
    seen = set()
    for path in BAD:
        pod = requested(dev.workers()["default"], path.stem)
        for index, rule in enumerate(rules):
            alone = {"spec": {**policy(dev)["spec"], "validations": [rule]}}
            if refusals(alone, pod, scheduler(dev)):
                seen.add(index)
    assert seen == set(range(len(rules)))


def test_components_and_other_peoples_pods_are_left_alone(dev: Rendered) -> None:
    for pod in dev.pods():
        if pod.where:
            continue
        made = {"metadata": pod.metadata, "spec": pod.spec}
        controller = "system:serviceaccount:kube-system:replicaset-controller"
        assert refusals(policy(dev), made, controller) == [], pod.identity


def test_a_worker_account_with_rights_of_its_own_starts_no_other_pods(dev: Rendered) -> None:
    pod = requested(dev.workers()["default"], "bad-foreign-image")
    del pod["metadata"]["labels"]["kubernetes_executor"]
    assert refusals(policy(dev), pod, "system:serviceaccount:airflow-dev:airflow-blue-worker")
    assert refusals(policy(dev), pod, "system:serviceaccount:airflow-dev:airflow-secrets") == []


def test_a_running_pod_may_be_labelled_whatever_it_is_but_not_changed(dev: Rendered) -> None:
    old = requested(dev.workers()["default"], "bad-foreign-image")
    labelled = {**old, "metadata": {**old["metadata"], "labels": {**old["metadata"]["labels"], "done": "True"}}}
    assert refusals(policy(dev), labelled, scheduler(dev), old) == []
    good = requested(dev.workers()["default"], "good-plain")
    assert refusals(policy(dev), old, scheduler(dev), good)


def test_an_upgrades_other_tag_passes(dev: Rendered) -> None:
    """While one colour starts pods of the old image, charts/platform knows the new one already."""
    pod = requested(dev.workers()["default"], "good-plain")
    for image in ("airflow-platform:3.2.2-1", f"airflow-platform@sha256:{64 * 'a'}"):
        pod["spec"]["containers"][0]["image"] = f"docker.io/library/{image}"
        assert refusals(policy(dev), pod, scheduler(dev)) == []


def test_an_environment_may_list_more(dev: Rendered, render: Render) -> None:
    listed = {
        "images": ["docker.io/evil/miner"],
        "serviceAccounts": ["airflow-blue-scheduler"],
        "secrets": ["airflow-fernet", "airflow-jwt", "airflow-api"],
        "volumeClaims": ["data-airflow-database-0"],
        "priorityClasses": ["airflow-control-plane"],
    }
    answer = render("airflow-platform", {"platform": {"admission": listed}}, only="admission/*.yaml")
    wider = answer.one("ValidatingAdmissionPolicy", "airflow-dev-worker-pods")
    for name in ("foreign-image", "account", "fernet-secret-env-from", "jwt-secret-volume", "api-secret-projected"):
        assert refusals(wider, requested(dev.workers()["default"], f"bad-{name}"), scheduler(dev)) == [], name
    for name in ("database-claim", "priority"):
        assert refusals(wider, requested(dev.workers()["default"], f"bad-{name}"), scheduler(dev)) == [], name
    token = requested(dev.workers()["default"], "bad-token")
    assert refusals(wider, token, scheduler(dev)), "the worker's own account still gets none"
    token["spec"]["serviceAccountName"] = "airflow-blue-scheduler"
    assert refusals(wider, token, scheduler(dev)) == []


def test_the_policy_is_bound_to_its_own_namespace(environment: Rendered) -> None:
    name = f"airflow-{environment.environment}"
    bound = environment.one("ValidatingAdmissionPolicyBinding", f"{name}-worker-pods")["spec"]
    assert bound["policyName"] == f"{name}-worker-pods"
    assert bound["validationActions"] == ["Deny"]
    assert bound["matchResources"]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": name}
    assert policy(environment)["spec"]["failurePolicy"] == "Fail"


@pytest.mark.parametrize(
    ("status", "message", "tried_again"),
    [
        (422, "ValidatingAdmissionPolicy 'airflow-dev-worker-pods' denied request: container base: privileged", False),
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged', False),
        (403, 'pods "x" is forbidden: exceeded quota: airflow, requested: requests.cpu=1', True),
    ],
)
def test_the_executor_gives_a_bad_pod_up_at_once_and_waits_for_a_full_quota(
    status: int, message: str, tried_again: bool
) -> None:
    executor = KubernetesExecutor()
    config = Environment.load("prod").values["airflow"]["config"]
    executor.task_publish_max_retries = config["kubernetes_executor"]["task_publish_max_retries"]
    queued: list[Any] = []
    executor.task_queue = SimpleNamespace(put=queued.append)  # type: ignore[assignment]
    refused = ApiException(status=status, reason="refused")
    refused.body, refused.headers = json.dumps({"message": message}), {}
    job: Any = SimpleNamespace(key=("dag", "task", "run", 1, -1))
    failed: list[Any] = []
    executor.fail = lambda key, info=None: failed.append((key, info))  # type: ignore[method-assign]
    # One in each of the executor's loops, about four a second.
    for _ in range(400 if tried_again else 1):
        executor._handle_pod_publish_error(job, refused)
    assert (bool(queued), bool(failed)) == (tried_again, not tried_again)
    if failed:
        assert json.dumps(message) in str(failed[0][1]), "what the scheduler writes into the task's event"
