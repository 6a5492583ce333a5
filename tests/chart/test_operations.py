"""Jobs that run airflow-ops in the cluster: their rights are these, no more, and enough for what the charts make."""

from typing import Any

import pytest
import yaml

from airflow_ops.paths import ROOT
from support.chart_rendering import ENVIRONMENTS, Render, Rendered

ON = {"platform": {"operations": {"enabled": True, "image": "registry.example.com/airflow-operations:1"}}}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MADE = {"get", "list", "watch", "create", "update", "patch", "delete"}
KEPT = MADE - {"delete"}
NAMESPACED = {
    **{("", kind): MADE for kind in ("configmaps", "secrets", "serviceaccounts", "services")},
    **{("apps", kind): MADE for kind in ("deployments", "statefulsets")},
    **{("batch", kind): MADE for kind in ("cronjobs", "jobs")},
    ("autoscaling", "horizontalpodautoscalers"): MADE,
    ("policy", "poddisruptionbudgets"): MADE,
    **{("networking.k8s.io", kind): MADE for kind in ("ingresses", "networkpolicies")},
    **{("rbac.authorization.k8s.io", kind): MADE for kind in ("rolebindings", "roles")},
    **{("monitoring.coreos.com", kind): MADE for kind in ("alertmanagerconfigs", "prometheusrules", "servicemonitors")},
    ("external-secrets.io", "externalsecrets"): MADE,
    **{("", kind): KEPT for kind in ("limitranges", "persistentvolumeclaims", "resourcequotas")},
    ("", "pods"): KEPT - {"update"} | {"delete"},
    ("", "pods/log"): {"get", "list"},
    **{("", f"pods/{kind}"): {"get", "create"} for kind in ("exec", "portforward")},
    ("", "events"): {"list", "watch"},
    ("apps", "replicasets"): {"list", "watch"},
    ("discovery.k8s.io", "endpointslices"): {"list"},
    ("coordination.k8s.io", "leases"): {"create"},
    ("coordination.k8s.io", "leases", "airflow-operation"): {"get", "update"},
}


def cluster_wide(namespace: str) -> dict[tuple[str, ...], set[str]]:
    change = {"get", "update", "patch"}
    name = f"{namespace}-operations"
    return {
        ("", "namespaces", namespace): {"get"},
        ("scheduling.k8s.io", "priorityclasses"): {"list"},
        ("rbac.authorization.k8s.io", "clusterrolebindings", name): change,
        ("rbac.authorization.k8s.io", "clusterroles", name): change,
        **{
            ("admissionregistration.k8s.io", kind, f"{namespace}-worker-pods", f"{namespace}-workloads"): change
            for kind in ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
        },
    }


def rights(role: dict[str, Any]) -> dict[tuple[str, ...], set[str]]:
    return {
        (group, resource, *rule.get("resourceNames", [])): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.fixture(params=ENVIRONMENTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def platform(name: str, render: Render) -> list[dict[str, Any]]:
    """The objects of the platform's release with these Jobs."""
    return render("airflow-platform", ON, environment=name).objects


@pytest.fixture
def colour(name: str, render: Render) -> list[dict[str, Any]]:
    return render("airflow-blue", environment=name).objects


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


def test_the_rights_are_those_listed(name: str, platform: list[dict[str, Any]]) -> None:
    (role,) = [each for each in of_kind(platform, "Role") if each["metadata"]["name"] == "airflow-operations"]
    assert rights(role) == NAMESPACED
    (role,) = of_kind(platform, "ClusterRole")
    assert rights(role) == cluster_wide(f"airflow-{name}")
    (binding,) = of_kind(platform, "ClusterRoleBinding")
    account = {"kind": "ServiceAccount", "name": "airflow-operations", "namespace": f"airflow-{name}"}
    assert binding["subjects"] == [account]


def plural(kind: str) -> str:
    lower = kind.lower()
    return f"{lower[:-1]}ies" if lower.endswith("cy") else f"{lower}es" if lower.endswith("s") else f"{lower}s"


def test_the_rights_are_enough_for_what_the_charts_make(
    platform: list[dict[str, Any]], colour: list[dict[str, Any]]
) -> None:
    has = {key[:2] for key in (*NAMESPACED, *cluster_wide("x"))}
    for each in (*platform, *colour):
        group, _, _ = each["apiVersion"].rpartition("/")
        assert (group, plural(each["kind"])) in has, each["metadata"]["name"]


def test_it_has_every_right_that_a_role_of_the_charts_gives(
    platform: list[dict[str, Any]], colour: list[dict[str, Any]]
) -> None:
    """Kubernetes lets nobody change a Role that gives what he has not."""
    for role in of_kind([*platform, *colour], "Role"):
        for right, verbs in rights(role).items():
            assert verbs <= NAMESPACED.get(right, NAMESPACED[right[:2]]), (role["metadata"]["name"], right)


def test_without_it_nothing_of_it_is_there(environment: Rendered) -> None:
    assert not [m.identity for m in environment.manifests if "operations" in m.name and m.kind != "NetworkPolicy"]


def test_its_pod_waits_for_nothing_and_never_begins_anew(render: Render) -> None:
    spec = render("airflow-platform", ON).one("CronJob", "airflow-operations")["spec"]
    assert spec["suspend"] is True
    job = spec["jobTemplate"]["spec"]
    network = yaml.safe_load((ROOT / "charts/platform/files/network.yaml").read_text())
    assert network["pods"]["operations"].items() <= job["template"]["metadata"]["labels"].items()
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [1, 2], "after 3 it is run again"
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_a_revision_makes_the_hook(render: Render) -> None:
    assert not [each for each in of_kind(render("airflow-platform", ON).objects, "Job") if "operations" in str(each)]
    values = {"platform": {"operations": {**ON["platform"]["operations"], "revision": COMMIT}}}
    hooked = render("airflow-platform", values)
    job = hooked.one("Job", "airflow-operations-reconcile-0123456789")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["reconcile", "dev", "--active-colour", "blue"]
    assert {"name": "REVISION", "value": COMMIT} in container["env"]
    scripts = [each.one("ConfigMap", "airflow-operations")["data"] for each in (render("airflow-platform", ON), hooked)]
    assert "revision" not in scripts[0]
    said = (scripts[1]["revision"], scripts[1]["arguments"])
    assert said == (COMMIT, "reconcile dev --active-colour blue"), (
        "Argo CD syncs only if an object differs, and a hook is none"
    )
    values["platform"]["operations"]["overlays"] = ["aws", "oidc"]
    with_overlays = render("airflow-platform", values).one("Job", "airflow-operations-reconcile-")
    assert with_overlays["spec"]["template"]["spec"]["containers"][0]["args"][-2:] == ["--overlays", "aws,oidc"]
    left, right = (
        each.one("Job", "airflow-migrate-")["metadata"]["name"] for each in (render("airflow-platform", ON), hooked)
    )
    assert left != right, "after the promotion the migration Job runs again, for pools and variables"


@pytest.mark.parametrize(
    ("operations", "others", "complaint"),
    [
        ({"image": ""}, {}, "platform.operations.image is empty"),
        ({"image": "no-tag"}, {}, "platform"),
        ({"revision": "main"}, {}, "platform"),
        ({"promotion": "never"}, {}, "promotion"),
        ({"revision": COMMIT[:7]}, {}, "platform"),
        ({"enabled": False, "revision": COMMIT}, {}, "platform.operations.revision is given"),
        ({}, {"admission": {"enabled": False}}, "platform.admission.enabled is false"),
        ({}, {"gitMirror": {"enabled": False}, "gitOrigin": {"enabled": False}}, "platform.gitMirror.enabled is false"),
        (
            {},
            {"monitoring": {"enabled": True, "dashboards": {"namespace": "grafana"}}},
            "platform.monitoring.dashboards.namespace",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    render: Render, operations: dict[str, Any], others: dict[str, Any], complaint: str
) -> None:
    values = {"platform": {"operations": {**ON["platform"]["operations"], **operations}, **others}}
    answer = render("airflow-platform", values)
    assert answer.code != 0
    assert complaint in answer.error
