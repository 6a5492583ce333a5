"""Pods that a task may ask for by executor_config, good and bad, and the policy that judges them, without a cluster.

A file is a partial pod, as a pod_override is; a bad one names in the annotation `refused-for` what its refusal says.
"""

from functools import cache
from typing import Any

import cel
import yaml
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient

from airflow_ops.paths import ROOT

FOLDER = ROOT / "tests/policies"
GOOD = sorted(FOLDER.glob("good-*.yaml"))
BAD = sorted(FOLDER.glob("bad-*.yaml"))
CONTENT = {path.stem: yaml.safe_load(path.read_text()) for path in (*GOOD, *BAD)}


def requested(template: dict[str, Any], name: str) -> dict[str, Any]:
    """A worker pod as KubernetesExecutor makes it of a template and the override in a file."""
    content = CONTENT[name]
    # Python's V1PodSpec, which a DAG gives, must have a container.
    content = {**content, "spec": {"containers": [{"name": "base"}], **content.get("spec", {})}}
    base, override = (PodGenerator.deserialize_model_dict(each) for each in (template, content))
    pod = PodGenerator.reconcile_pods(base, override)
    pod.metadata.name, pod.metadata.labels = f"policy-{name}", {**pod.metadata.labels, "kubernetes_executor": "True"}
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", **ApiClient().sanitize_for_serialization(pod)}
    return made


def refused_for(name: str) -> str:
    """What the refusal of a bad pod says."""
    return str(CONTENT[name]["metadata"]["annotations"]["refused-for"])


@cache
def _compiled(expression: str) -> Any:
    return cel.compile(expression)


def refusals(
    policy: dict[str, Any], pod: dict[str, Any], user: str, old: dict[str, Any] | None = None, kind: str = "Pod"
) -> list[str]:
    """What a ValidatingAdmissionPolicy says against a pod: see `broken_rules`."""
    return list(broken_rules(policy, pod, user, old, kind).values())


def broken_rules(
    policy: dict[str, Any], pod: dict[str, Any], user: str, old: dict[str, Any] | None = None, kind: str = "Pod"
) -> dict[int, str]:
    """The rules of a ValidatingAdmissionPolicy that a pod breaks, by their place, and what each says.

    None if the policy lets it pass or is not asked.

    Args:
        policy: The policy as it is rendered.
        pod: The pod, after the defaults that the API server fills in.
        user: Who asks for it.
        old: The pod as it was, if it is changed and not made.
        kind: Its kind, where it is something else that makes pods.
    """
    request = {"operation": "UPDATE" if old else "CREATE", "userInfo": {"username": user}, "kind": {"kind": kind}}
    given: dict[str, Any] = {"object": pod, "oldObject": old, "request": request, "variables": {}}
    spec = policy["spec"]
    if not all(_compiled(each["expression"]).execute(given) for each in spec["matchConditions"]):
        return {}
    for variable in spec["variables"]:
        given["variables"][variable["name"]] = _compiled(variable["expression"]).execute(given)
    return {
        place: str(
            _compiled(each["messageExpression"]).execute(given) if "messageExpression" in each else each["message"]
        )
        for place, each in enumerate(spec["validations"])
        if not _compiled(each["expression"]).execute(given)
    }
