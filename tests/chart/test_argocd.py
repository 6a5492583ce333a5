"""k8s/argocd: what Argo CD may do is what the chart needs; tests/e2e/test_argocd.py lets a real one sync it."""

import os
from typing import Any

import pytest
import yaml

from airflow_ops import programs
from airflow_ops.deployment.preflight import namespace_text
from airflow_ops.environments.environment import Environment
from airflow_ops.paths import ROOT, VALUES
from support.admission_pods import refusals
from support.chart_rendering import ENVIRONMENTS, Render, Rendered

FOLDER = ROOT / "k8s/argocd"
NO_NAMESPACE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
IMAGE = "registry.example.com/airflow-operations:1"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def every_document() -> list[dict[str, Any]]:
    return [each for path in sorted(FOLDER.glob("*.yaml")) for each in documents(path.name)]


def addresses(value: Any) -> set[str]:
    """Every address of a repository in a structure."""
    if isinstance(value, dict):
        own = {value["repoURL"]} if "repoURL" in value else set(value.get("sourceRepos", []))
        return own.union(*map(addresses, value.values()))
    return set().union(*map(addresses, value)) if isinstance(value, list) else set()


@pytest.fixture(scope="module")
def application_set() -> dict[str, Any]:
    (found,) = documents("applicationset.yaml")
    return found


def allowed(which: str) -> set[tuple[str, str]]:
    (project,) = documents("project.yaml")
    return {(each["group"], each["kind"]) for each in project["spec"][which]}


def rendered(render: Render) -> set[tuple[str, str]]:
    """Group and kind of everything that the platform renders in any environment, with every overlay that it has."""
    operations = {"operations": {"enabled": True, "image": IMAGE}}
    routing = yaml.safe_load((VALUES / "overlays/alert-routing.yaml").read_text())
    routing["platform"] |= operations
    found = [render("airflow-platform", {"platform": operations}, environment=name) for name in ENVIRONMENTS]
    found.append(render("airflow-platform", routing, environment="prod"))
    return {(o["apiVersion"].rpartition("/")[0], o["kind"]) for each in found for o in each.objects}


def test_the_project_allows_what_the_chart_renders_and_no_more(render: Render) -> None:
    kinds = rendered(render)
    cluster_wide = {each for each in kinds if each[1] in NO_NAMESPACE}
    assert allowed("clusterResourceWhitelist") == cluster_wide | {("", "Namespace")}
    assert allowed("namespaceResourceWhitelist") == kinds - cluster_wide


def test_all_name_one_repository() -> None:
    assert len(set().union(*map(addresses, every_document()))) == 1


def test_bootstrap_syncs_files_that_exist() -> None:
    (application,) = [each for each in documents("bootstrap.yaml") if each["kind"] == "Application"]
    source = application["spec"]["source"]
    for path in source["directory"]["include"].strip("{}").split(","):
        assert (ROOT / source["path"] / path).is_file(), path
        assert "bootstrap" not in path, "it may not give itself more rights"


def test_the_namespace_is_that_of_a_deploy(application_set: dict[str, Any]) -> None:
    labels = application_set["spec"]["template"]["spec"]["syncPolicy"]["managedNamespaceMetadata"]["labels"]
    made = yaml.safe_load(namespace_text(Environment.load("prod")))["metadata"]["labels"]
    assert {key: value.replace("{{ .name }}", "prod") for key, value in labels.items()} == made


def test_what_an_upgrade_moves_is_ignored_and_nothing_else(application_set: dict[str, Any], render: Render) -> None:
    """Everything else that somebody changes on the cluster is changed back."""
    blue, green = (render("airflow-platform", {"global": {"activeColour": c}}) for c in ("blue", "green"))
    moved = {
        (left["kind"], left["metadata"]["name"])
        for left, right in zip(blue.objects, green.objects, strict=True)
        if left != right
    }
    every = application_set["spec"]["template"]["spec"]["ignoreDifferences"]
    ignored = [each for each in every if each["kind"] == "Service"]
    assert [each["kind"] for each in every if each not in ignored] == ["ExternalSecret"], "its definition fills it in"
    assert {(each["kind"], each["name"]) for each in ignored} == moved
    assert {pointer for each in ignored for pointer in each["jsonPointers"]} == {"/spec/selector/release"}


def test_objects_outlive_their_application(application_set: dict[str, Any]) -> None:
    policy = application_set["spec"]["syncPolicy"]
    assert policy == {"applicationsSync": "create-update", "preserveResourcesOnDeletion": True}


CASCADES = [
    "resources-finalizer.argocd.argoproj.io",
    "resources-finalizer.argocd.argoproj.io/foreground",
    "resources-finalizer.argocd.argoproj.io/background",
]


def application(*finalizers: str, project: str = "airflow") -> dict[str, Any]:
    metadata = {"name": "airflow-prod", **({"finalizers": list(finalizers)} if finalizers else {})}
    return {"metadata": metadata, "spec": {"project": project}}


@pytest.mark.parametrize("cascade", CASCADES)
def test_nobody_makes_an_application_take_its_environment_with_it(cascade: str) -> None:
    policy, binding = documents("admission.yaml")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    other = "post-delete-finalizer.argocd.argoproj.io"
    for old, new in (
        (None, application(cascade)),
        (application(), application(cascade)),
        (application(other), application(other, cascade)),
    ):
        (refused,) = refusals(policy, new, "argocd-server", old, "Application")
        assert "a cascading delete of Application airflow-prod would delete its environment" in refused


def test_other_finalizers_other_projects_and_what_was_there_before_are_left_alone() -> None:
    policy, _ = documents("admission.yaml")
    for old, new in (
        (None, application()),
        (None, application("post-delete-finalizer.argocd.argoproj.io")),
        (application(), application(CASCADES[0], project="default")),
        # Argo CD itself writes the status of an Application that had it before there was a policy.
        (application(CASCADES[0]), application(CASCADES[0])),
        (application(CASCADES[0]), application()),
    ):
        assert refusals(policy, new, "argocd-application-controller", old, "Application") == []


def test_claims_of_stateful_sets_name_what_kubernetes_fills_in(dev: Rendered) -> None:
    """Argo CD compares these fields, and would show the StatefulSet as OutOfSync for ever."""
    for name, each in dev.all("StatefulSet").items():
        if each["metadata"]["labels"].get("app.kubernetes.io/name") == "airflow-platform":
            (claim,) = each["spec"]["volumeClaimTemplates"]
            assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim"), name
            assert claim["spec"]["volumeMode"] == "Filesystem", name


def test_they_fit_the_definitions_of_argo_cd() -> None:
    crds = os.environ.get("AIRFLOW_OPS_CRD_SCHEMAS")
    if not crds:
        pytest.skip("AIRFLOW_OPS_CRD_SCHEMAS names no folder of schemas")
    location = f"{crds}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"
    files = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "admission.yaml")
    answer = programs.run("kubeconform", ["-strict", "-summary", "-schema-location", location, *map(str, files)])
    assert answer.returncode == 0, answer.stdout
    assert f"{sum(len(documents(path.name)) for path in files)} resources" in answer.stdout
