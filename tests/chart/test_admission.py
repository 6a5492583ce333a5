"""What a task may ask for by executor_config: good and bad pods against the rendered policy."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import KubernetesExecutor
from kubernetes.client.exceptions import ApiException

from airflow_ops.checks.scheduling import LimitRange, refused_by_limit_range
from airflow_ops.cluster import plain_pods
from airflow_ops.environments.environment import Environment
from support.admission_pods import BAD, GOOD, broken_rules, refusals, refused_for, requested
from support.chart_rendering import Render, Rendered

POLICIES = ("worker-pods", "workloads")
CONTROLLERS = ("system:serviceaccount:kube-system:job-controller", "system:kube-controller-manager", "lab-admin")


def policy(environment: Rendered) -> dict[str, Any]:
    return environment.one("ValidatingAdmissionPolicy", f"airflow-{environment.environment}-worker-pods")


def scheduler(environment: Rendered, colour: str = "blue") -> str:
    return f"system:serviceaccount:airflow-{environment.environment}:airflow-{colour}-scheduler"


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_pod_passes(environment: Rendered, path: Any) -> None:
    for size, template in environment.workers().items():
        pod = requested(template, path.stem)
        assert refusals(policy(environment), pod, scheduler(environment)) == [], size


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_pod_is_refused_with_its_reason(prod: Rendered, path: Any) -> None:
    pod = requested(prod.workers()["default"], path.stem)
    for colour in ("blue", "green"):
        messages = refusals(policy(prod), pod, scheduler(prod, colour))
        assert any(refused_for(path.stem) in each for each in messages), messages


def test_every_rule_has_a_bad_pod(dev: Rendered) -> None:
    """A rule that refuses nothing would not be missed."""
    rules = policy(dev)["spec"]["validations"]
    seen: set[int] = set()
    for path in BAD:
        pod = requested(dev.workers()["default"], path.stem)
        seen |= broken_rules(policy(dev), pod, scheduler(dev)).keys()
    assert seen == set(range(len(rules)))


def test_components_and_other_peoples_pods_are_left_alone(dev: Rendered) -> None:
    """The user that makes pods for a Deployment has another name in each cluster."""
    for pod in dev.pods():
        if pod.where:
            continue
        made = {"metadata": pod.metadata, "spec": pod.spec}
        for controller in CONTROLLERS:
            assert refusals(policy(dev), made, controller) == [], pod.identity


def test_an_account_of_the_namespace_cannot_pass_for_a_component(dev: Rendered) -> None:
    pod = requested(dev.workers()["default"], "bad-account")
    del pod["metadata"]["labels"]["kubernetes_executor"]
    for maker in (scheduler(dev), TEAM):
        assert "service account airflow-blue-scheduler is not for tasks" in refusals(policy(dev), pod, maker)[0], maker


def test_a_worker_account_with_rights_of_its_own_starts_no_other_pods(dev: Rendered) -> None:
    pod = requested(dev.workers()["default"], "bad-foreign-image")
    del pod["metadata"]["labels"]["kubernetes_executor"]
    assert refusals(policy(dev), pod, "system:serviceaccount:airflow-dev:airflow-blue-worker")
    assert refusals(policy(dev), pod, "system:serviceaccount:airflow-dev:airflow-secrets")


TEAM = "system:serviceaccount:airflow-dev:airflow-kpo"
"""An account that tasks of a team start pods with, and what pods of theirs have."""
TEAM_LABELS = {"kubernetes_pod_operator": "True"}


@pytest.fixture
def of_team(dev: Rendered, render: Render) -> Callable[..., dict[str, Any]]:
    """The policies of an environment that lists the account, by name; more of `platform.admission` may be given."""

    def rendered(**more: Any) -> dict[str, Any]:
        values = {"platform": {"admission": {"serviceAccounts": ["airflow-kpo"], **more}}}
        answer = render("airflow-platform", values, only="admission/*.yaml")
        return {name: answer.one("ValidatingAdmissionPolicy", f"airflow-dev-{name}") for name in POLICIES}

    return rendered


@pytest.mark.parametrize("maker", [TEAM, "jane", *CONTROLLERS])
@pytest.mark.parametrize("account", ["airflow-blue-worker", "airflow-kpo", "default"])
def test_whoever_makes_a_pod_it_is_judged(
    dev: Rendered, of_team: Callable[..., dict[str, Any]], maker: str, account: str
) -> None:
    """KubernetesPodOperator's pods have another label; a controller makes those of a Job."""
    pod = requested(dev.workers()["default"], "bad-foreign-image")
    pod["metadata"]["labels"] = TEAM_LABELS
    pod["spec"]["serviceAccountName"] = account
    assert refusals(of_team()["worker-pods"], pod, maker)


def test_a_pod_of_a_listed_account_that_keeps_the_rules_is_taken(
    dev: Rendered, of_team: Callable[..., dict[str, Any]]
) -> None:
    pod = requested(dev.workers()["default"], "good-plain")
    pod["metadata"]["labels"], pod["spec"]["serviceAccountName"] = TEAM_LABELS, "airflow-kpo"
    pod["spec"]["automountServiceAccountToken"] = True
    # What Kubernetes adds for the token.
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    pod["spec"]["volumes"].append({"name": "kube-api-access-x", "projected": {"sources": [token]}})
    for maker in (TEAM, *CONTROLLERS):
        assert refusals(of_team()["worker-pods"], pod, maker) == [], maker


def test_what_an_environment_exempts_is_not_judged(dev: Rendered, of_team: Callable[..., dict[str, Any]]) -> None:
    solver = "system:serviceaccount:cert-manager:cert-manager"
    pod = requested(dev.workers()["default"], "bad-foreign-image")
    pod["metadata"]["labels"], pod["spec"]["serviceAccountName"] = {"app": "other"}, "warehouse"
    assert refusals(of_team()["worker-pods"], pod, solver)
    assert refusals(of_team(exempt={"users": [solver]})["worker-pods"], pod, solver) == []
    wider = of_team(exempt={"serviceAccounts": ["warehouse"]})["worker-pods"]
    assert refusals(wider, pod, CONTROLLERS[0]) == []
    assert refusals(wider, pod, TEAM), "a task may not use that account"


def test_what_airflow_ops_starts_is_not_judged_but_an_account_of_the_namespace_cannot_say_so(dev: Rendered) -> None:
    started = plain_pods.pod(Environment.load("dev"), "airflow-prober", "prober", ["python"], {})
    assert refusals(policy(dev), started, "jane") == []
    assert refusals(policy(dev), started, "system:serviceaccount:ci:deployer") == []
    assert refusals(policy(dev), started, "system:serviceaccount:airflow-dev:airflow-operations") == []
    assert refusals(policy(dev), started, TEAM)


@pytest.mark.parametrize(
    ("kind", "path"), [("Job", ("spec", "template")), ("CronJob", ("spec", "jobTemplate", "spec", "template"))]
)
def test_a_team_makes_no_job_with_the_account_of_a_component(
    of_team: Callable[..., dict[str, Any]], kind: str, path: tuple[str, ...]
) -> None:
    def made(account: str) -> dict[str, Any]:
        found: dict[str, Any] = {"spec": {"serviceAccountName": account}}
        for key in reversed(path):
            found = {key: found}
        return found

    workloads = of_team()["workloads"]
    refused = refusals(workloads, made("airflow-blue-scheduler"), TEAM, kind=kind)
    assert refused == [
        "service account airflow-blue-scheduler is not for tasks: use one of platform.admission.serviceAccounts"
    ]
    assert refusals(workloads, made("airflow-kpo"), TEAM, kind=kind) == []
    for maker in ("jane", "system:serviceaccount:airflow-dev:airflow-operations"):
        assert refusals(workloads, made("airflow-blue-scheduler"), maker, kind=kind) == [], maker


@pytest.mark.parametrize(
    "labels",
    [{"component": "api-server", "tier": "airflow"}, {"app.kubernetes.io/part-of": "airflow"}],
    ids=["a component of Airflow", "one of the platform"],
)
def test_a_running_pod_does_not_become_a_component(dev: Rendered, labels: dict[str, str]) -> None:
    old = requested(dev.workers()["default"], "good-plain")
    changed = {**old, "metadata": {**old["metadata"], "labels": {**old["metadata"]["labels"], **labels}}}
    for maker in (scheduler(dev), TEAM, "jane"):
        assert refusals(policy(dev), changed, maker, old), maker
    assert refusals(policy(dev), changed, scheduler(dev), changed) == []


def test_what_a_limit_range_fills_in_is_taken(dev: Rendered) -> None:
    pod = requested(dev.workers()["default"], "good-executor-config")
    pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] = "LimitRanger plugin set: ephemeral-storage request"
    assert refusals(policy(dev), pod, scheduler(dev)) == []


def test_a_volume_of_no_kind_is_refused(dev: Rendered) -> None:
    pod = requested(dev.workers()["default"], "good-plain")
    pod["spec"]["volumes"].append({"name": "dropped"})
    assert "volume dropped" in refusals(policy(dev), pod, scheduler(dev))[0]


def test_with_a_token_the_first_complaint_is_about_the_field_that_gives_it(dev: Rendered) -> None:
    pod = requested(dev.workers()["default"], "bad-token")
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    pod["spec"]["volumes"].append({"name": "kube-api-access-x", "projected": {"sources": [token]}})
    assert "automountServiceAccountToken is not false" in refusals(policy(dev), pod, scheduler(dev))[0]


def test_a_cloud_may_add_a_token_of_its_own_audience(dev: Rendered, of_team: Callable[..., dict[str, Any]]) -> None:
    pod = requested(dev.workers()["default"], "good-plain")
    source = {"serviceAccountToken": {"path": "token", "audience": "sts.amazonaws.com"}}
    pod["spec"]["volumes"].append({"name": "aws-iam-token", "projected": {"sources": [source]}})
    wider = of_team(tokenAudiences=["sts.amazonaws.com"])["worker-pods"]
    assert refusals(policy(dev), pod, scheduler(dev))
    assert refusals(wider, pod, scheduler(dev)) == []
    source["serviceAccountToken"]["audience"] = "vault"
    assert refusals(wider, pod, scheduler(dev))
    del source["serviceAccountToken"]["audience"]
    assert refusals(wider, pod, scheduler(dev)), "without one it is a token for Kubernetes"


def test_a_pod_without_priority_would_not_count_towards_the_tasks_quota(dev: Rendered) -> None:
    pod = requested(dev.workers()["default"], "good-plain")
    del pod["spec"]["priorityClassName"]
    assert "priority class of no name" in refusals(policy(dev), pod, scheduler(dev))[0]


def test_what_a_team_may_ask_for_more(dev: Rendered, of_team: Callable[..., dict[str, Any]]) -> None:
    """GPUs, taints, annotations, and volumes of a class."""
    pod = requested(dev.workers()["default"], "bad-gpu")
    pod["metadata"]["annotations"]["sidecar.istio.io/inject"] = "false"
    pod["spec"]["tolerations"] = [
        {"key": "nvidia.com/gpu", "operator": "Exists"},
        {"key": "team", "operator": "Exists"},
    ]
    claim = {"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}}
    pod["spec"]["volumes"].append({"name": "work", "ephemeral": {"volumeClaimTemplate": claim}})
    assert len(refusals(policy(dev), pod, scheduler(dev))) == 4
    wider = of_team(
        resources=["nvidia.com/gpu"], tolerations=["team"], annotations=["sidecar.istio.io/"], storageClasses=["fast"]
    )["worker-pods"]
    assert refusals(wider, pod, scheduler(dev)) == []


OVER = [
    ({"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "4", "memory": "16Gi"}}, "maxLimitRequestRatio"),
    (
        {
            "requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"},
            "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "10Ti"},
        },
        "max is 32Gi",
    ),
]
"""Amounts, which CEL's language alone cannot compare."""


@pytest.mark.parametrize(("resources", "reason"), OVER)
def test_the_limit_range_refuses_amounts(environment: Rendered, resources: dict[str, Any], reason: str) -> None:
    limits = LimitRange.read([environment.one("LimitRange", "airflow")])
    for template in environment.workers().values():
        spec = requested(template, "good-plain")["spec"]
        assert refused_by_limit_range(spec, limits) == []
        spec["containers"][0]["resources"] = resources
        assert any(reason in each for each in refused_by_limit_range(spec, limits))


def test_the_limit_range_takes_every_component(environment: Rendered) -> None:
    limits = LimitRange.read([environment.one("LimitRange", "airflow")])
    for pod in environment.pods():
        assert refused_by_limit_range(pod.spec, limits) == [], pod.identity


def test_a_running_pod_keeps_the_node_that_it_has_got(dev: Rendered) -> None:
    old = requested(dev.workers()["default"], "good-plain")
    old["spec"]["nodeName"], old["metadata"]["annotations"] = "node-1", {"cni.projectcalico.org/podIP": "10.0.0.1"}
    changed = {**old, "spec": {**old["spec"], "activeDeadlineSeconds": 60}}
    assert refusals(policy(dev), changed, scheduler(dev), old) == []


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
        "secrets": ["team-key"],
        "volumeClaims": ["data-airflow-database-0"],
        "priorityClasses": ["airflow-control-plane"],
    }
    answer = render("airflow-platform", {"platform": {"admission": listed}}, only="admission/*.yaml")
    wider = answer.one("ValidatingAdmissionPolicy", "airflow-dev-worker-pods")
    for name in ("foreign-image", "database-claim", "priority"):
        assert refusals(wider, requested(dev.workers()["default"], f"bad-{name}"), scheduler(dev)) == [], name
    for name, secret in (
        ("fernet-secret-env-from", "airflow-fernet"),
        ("jwt-secret-volume", "airflow-jwt"),
        ("api-secret-projected", "airflow-api"),
    ):
        pod = json.dumps(requested(dev.workers()["default"], f"bad-{name}"))
        assert refusals(wider, json.loads(pod.replace(secret, "team-key")), scheduler(dev)) == [], name


@pytest.mark.parametrize("account", ["airflow-blue-scheduler", "airflow-green-worker", "airflow-operations"])
@pytest.mark.parametrize("key", ["serviceAccounts", "exempt"])
def test_an_account_of_ours_is_not_listed_for_tasks(render: Render, key: str, account: str) -> None:
    listed = {key: [account] if key == "serviceAccounts" else {"serviceAccounts": [account]}}
    answer = render("airflow-platform", {"platform": {"admission": listed}})
    assert answer.code != 0
    assert f"platform.admission names the service account {account}" in answer.error


@pytest.mark.parametrize(
    "secret",
    [
        "airflow-metadata",
        "airflow-metadata-dag-code",
        "airflow-fernet",
        "airflow-jwt",
        "airflow-users",
        "airflow-backup",
    ],
)
def test_keys_of_airflow_are_not_listed_for_tasks(render: Render, secret: str) -> None:
    answer = render("airflow-platform", {"platform": {"admission": {"secrets": [secret]}}})
    assert answer.code != 0
    assert f"platform.admission.secrets names {secret}" in answer.error


def test_the_policy_is_bound_to_its_own_namespace(environment: Rendered) -> None:
    namespace = f"airflow-{environment.environment}"
    for name in (f"{namespace}-{each}" for each in POLICIES):
        bound = environment.one("ValidatingAdmissionPolicyBinding", name)["spec"]
        assert bound["policyName"] == name
        assert bound["validationActions"] == ["Deny"]
        assert bound["matchResources"]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
        assert environment.one("ValidatingAdmissionPolicy", name)["spec"]["failurePolicy"] == "Fail"


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
