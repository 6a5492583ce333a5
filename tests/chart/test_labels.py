"""Labels, annotations and file names of the objects that the charts make themselves."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import KUBERNETES_VERSIONS, Object, releases, template
from airflow_ops.paths import ROOT
from support.chart_rendering import ENVIRONMENTS, needs_chart

PREFIX = "app.kubernetes.io/"
SELECTOR = {f"{PREFIX}name", f"{PREFIX}instance", f"{PREFIX}component"}
CHANGING = {f"{PREFIX}version", "helm.sh/chart"}
STANDARD = SELECTOR | CHANGING | {f"{PREFIX}part-of", f"{PREFIX}managed-by"}
KEYED = ("labels", "annotations", "matchLabels", "podAnnotations", "airflowPodAnnotations", "nodeSelector")
OUR_NAMES = re.compile(r"(?<![\w./-])platform/[a-z0-9]+(-[a-z0-9]+)*(?![\w./-])")
"""A key as they were before they got a domain; a path under charts/platform or dags/platform is not one."""


@cache
def ours(environment: str) -> dict[str, list[Object]]:
    """The objects of our own templates by the template's path below templates/; the official chart's are left out."""
    needs_chart()
    found: dict[str, list[Object]] = {}
    for release in releases(Environment.load(environment)):
        for text in re.split(r"(?m)^---\n", template(release)):
            source = re.match(r"# Source: airflow-(?:platform|colour)/templates/(\S+)", text)
            content = yaml.load(text, Loader=yaml.CSafeLoader)
            if source and content:
                found.setdefault(source[1], []).append(content)
    return found


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_object_has_the_standard_labels(name: str) -> None:
    for source, objects in ours(name).items():
        for one in objects:
            labels = one["metadata"]["labels"]
            assert labels.keys() >= STANDARD, f"{source}: {STANDARD - labels.keys()}"
            assert labels[f"{PREFIX}name"] in ("airflow-platform", "airflow-colour"), source
            assert labels["helm.sh/chart"].startswith(f"{labels[f'{PREFIX}name']}-"), source
            assert labels[f"{PREFIX}component"] == source.split("/")[0], source


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_template_is_found_by_component_and_kind(name: str) -> None:
    for source, objects in ours(name).items():
        assert re.fullmatch(r"[a-z-]+/[a-z]+\.yaml", source), f"{source}: put it in the folder of its component"
        for one in objects:
            assert source.endswith(f"/{one['kind'].lower()}.yaml"), f"{source} makes a {one['kind']}"


@pytest.mark.parametrize("chart", ["airflow", "platform"])
def test_rendered_templates_define_no_helpers(chart: str) -> None:
    for path in (ROOT / "charts" / chart / "templates").rglob("*.yaml"):
        assert "define " not in path.read_text(), f"{path}: move it to a .tpl file"


def _selectors(node: Any) -> Iterator[dict[str, str]]:
    """Labels by which an object selects pods or Services of ours."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("selector", "matchLabels") and isinstance(value, dict) and f"{PREFIX}component" in value:
                yield value
            yield from _selectors(value)
    elif isinstance(node, list):
        for item in node:
            yield from _selectors(item)


def _pod_labels(node: Any) -> Iterator[dict[str, str]]:
    if isinstance(node, dict):
        if isinstance(node.get("template"), dict) and "spec" in node["template"]:
            yield node["template"].get("metadata", {}).get("labels", {})
        for value in node.values():
            yield from _pod_labels(value)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_nothing_that_cannot_change_carries_a_version(name: str) -> None:
    """A selector cannot be changed, nor a Job's pod template; other pods would restart for a label."""
    selectors, pods = [], []
    for source, objects in ours(name).items():
        for one in objects:
            selectors += list(_selectors(one["spec"])) if "spec" in one else []
            pods += list(_pod_labels(one))
            claims = one.get("spec", {}).get("volumeClaimTemplates", [])
            assert not any(claim["metadata"].get("labels") for claim in claims), source
    preflight = {f"{PREFIX}name", f"{PREFIX}component", f"{PREFIX}part-of"}
    assert selectors
    assert pods
    assert all(selector.keys() in (SELECTOR, preflight) for selector in selectors), selectors
    assert not any(labels.keys() & CHANGING for labels in pods), pods


def _keys(node: Any) -> Iterator[str]:
    """Keys of labels and annotations, wherever they are."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in KEYED and isinstance(value, dict):
                yield from value
            yield from _keys(value)
    elif isinstance(node, list):
        for item in node:
            yield from _keys(item)


def bad_prefixes(node: Any) -> set[str]:
    """Keys whose prefix is not a domain."""
    return {key for key in _keys(node) if "/" in key and "." not in key.partition("/")[0]}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_prefix_in_an_object_is_a_domain(name: str) -> None:
    assert not bad_prefixes([*ours(name).values()])


def test_a_prefix_in_a_file_is_a_domain() -> None:
    folders = ["charts", "ci", "docs", "image", "k8s", "plugins", "pod_templates", "tests", "values"]
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    found = []
    for line in listed.stdout.splitlines():
        path = ROOT / line
        if path.suffix not in (".yaml", ".py", ".md", ".tpl", ".gotmpl") or not path.is_file():
            continue
        text = path.read_text()
        found += [f"{line}: {match[0]}" for match in OUR_NAMES.finditer(text)]
        if path.suffix == ".yaml" and "templates" not in path.parts:
            found += [f"{line}: {key}" for key in bad_prefixes(list(yaml.safe_load_all(text)))]
    assert not found


def test_a_name_without_a_domain_is_seen() -> None:
    assert bad_prefixes({"metadata": {"labels": {"a.example.com/x": "", "team/x": ""}}}) == {"team/x"}
    assert OUR_NAMES.search("annotation `" + "platform" + "/x-y`")
    assert not OUR_NAMES.search("charts/platform/values.yaml, platform/files/rules, /platform/database")


def test_a_stateful_set_names_a_service_without_an_address() -> None:
    objects = [one for found in ours("dev").values() for one in found]
    services = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Service"}
    sets = [one["spec"] for one in objects if one["kind"] == "StatefulSet"]
    assert len(sets) == 3
    for one in sets:
        service = services[one["serviceName"]]
        assert service["clusterIP"] == "None"
        assert service["selector"] == one["selector"]["matchLabels"]


def test_the_supported_kubernetes_versions_stand_in_one_place() -> None:
    supported = [version.removesuffix(".0") for version in KUBERNETES_VERSIONS]
    for chart in ("airflow", "platform"):
        meta = yaml.safe_load((ROOT / f"charts/{chart}/Chart.yaml").read_text())
        assert meta["kubeVersion"] == f">={supported[0]}.0-0", chart
    table = (ROOT / "docs/compatibility.md").read_text()
    assert f"| Kubernetes | {', '.join(supported)} |" in table
    node = yaml.safe_load((ROOT / "k8s/kind/cluster.yaml").read_text())["nodes"][0]["image"]
    assert re.fullmatch(r"kindest/node:v(\d+\.\d+)\.\d+", node)[1] in supported  # type: ignore[index]


@pytest.mark.parametrize(
    ("version", "accepted"), [("v1.34.1-eks-abc1234", True), ("v1.35.2-gke.100", True), ("v1.32.9", False)]
)
def test_a_cluster_is_accepted_by_its_version(version: str, accepted: bool) -> None:
    needs_chart()
    for release in releases(Environment.load("dev")):
        command = ["helm", "template", release.name, release.chart_folder, "-n", release.namespace]
        command += [*release.value_arguments(), "--kube-version", version]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (answer.returncode == 0) is accepted, answer.stderr
        assert accepted or "incompatible with Kubernetes" in answer.stderr
