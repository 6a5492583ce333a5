"""Every field of a pod, in each supported Kubernetes, is refused, looked at by a rule, or known to do no harm."""

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
import yaml

from airflow_ops.manifests.objects import KUBERNETES_VERSIONS
from airflow_ops.paths import ROOT
from support.admission_pods import refusals, requested
from support.chart_rendering import Rendered

LISTED: dict[str, dict[str, str]] = yaml.safe_load((ROOT / "charts/platform/files/admission.yaml").read_text())
KNOWN = ROOT / "tests/policies/known_fields.txt"
"""Every field below a listed one, as `container.env.name`: looked at by somebody, so without harm or with a rule."""
CORE = "io.k8s.api.core.v1."
DEFINITIONS = {
    "pod": "PodSpec",
    "podSecurityContext": "PodSecurityContext",
    "container": "Container",
    "securityContext": "SecurityContext",
    "port": "ContainerPort",
    "valueFrom": "EnvVarSource",
    "envFrom": "EnvFromSource",
    "resources": "ResourceRequirements",
    "probe": "Probe",
    "lifecycle": "Lifecycle",
    "hook": "LifecycleHandler",
    "volume": "Volume",
    "projected": "VolumeProjection",
    "ephemeralClaim": "PersistentVolumeClaimSpec",
}
"""What each list of the file is about, in Kubernetes' schema."""


@cache
def definitions(version: str) -> dict[str, Any]:
    folder = files("kubernetes_validate") / f"kubernetes-json-schema/v{version}-local"
    found: dict[str, Any] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    return found


def fields(version: str, definition: str) -> dict[str, Any]:
    found: dict[str, Any] = definitions(version)[CORE + definition].get("properties", {})
    return found


def referred(schema: dict[str, Any]) -> str | None:
    """The definition of core/v1 that a field's content has, in a list or map too."""
    reference = str((schema.get("items") or schema.get("additionalProperties") or schema).get("$ref", ""))
    name = reference.rpartition("/")[2]
    return name.removeprefix(CORE) if name.startswith(CORE) else None


def below(version: str, path: str, definition: str | None) -> Iterator[str]:
    """Paths of all fields below one."""
    for name, schema in fields(version, definition).items() if definition else ():
        # What has a list of its own is another case of the test.
        if referred(schema) not in DEFINITIONS.values():
            yield f"{path}.{name}"
            yield from below(version, f"{path}.{name}", referred(schema))


def of(container: dict[str, Any], key: str, field: str) -> None:
    container[key] = {**container.get(key, {}), field: {}}


def with_field(pod: dict[str, Any], group: str, field: str) -> dict[str, Any]:
    """A good pod with one field more, whose content nobody may ask for."""
    made: dict[str, Any] = json.loads(json.dumps(pod))
    spec = made["spec"]
    container = spec["containers"][0]
    volume = {"name": "more"}
    claim = {"storageClassName": "standard", field: {}}
    places: dict[str, Any] = {
        "pod": lambda: spec.update({field: {}}),
        "podSecurityContext": lambda: of(spec, "securityContext", field),
        "container": lambda: container.update({field: {}}),
        "securityContext": lambda: of(container, "securityContext", field),
        "port": lambda: container.update(ports=[{"containerPort": 1, field: {}}]),
        "valueFrom": lambda: container["env"].append({"name": "MORE", "valueFrom": {field: {}}}),
        "envFrom": lambda: container["envFrom"].append({field: {}}),
        "resources": lambda: of(container, "resources", field),
        "probe": lambda: container.update(startupProbe={field: {}}),
        "lifecycle": lambda: container.update(lifecycle={field: {}}),
        "hook": lambda: container.update(lifecycle={"preStop": {field: {}}}),
        "volume": lambda: spec["volumes"].append({**volume, field: {}}),
        "projected": lambda: spec["volumes"].append({**volume, "projected": {"sources": [{field: {}}]}}),
        "ephemeralClaim": lambda: spec["volumes"].append(
            {**volume, "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
        ),
    }
    places[group]()
    return made


def test_each_list_is_about_something_that_kubernetes_has() -> None:
    assert set(LISTED) == set(DEFINITIONS)
    for group, definition in DEFINITIONS.items():
        known = {name for version in KUBERNETES_VERSIONS for name in fields(version, definition)}
        assert set(LISTED[group]) <= known, group


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("group", DEFINITIONS)
def test_a_field_that_is_in_no_list_is_refused(dev: Rendered, version: str, group: str) -> None:
    policy = dev.one("ValidatingAdmissionPolicy", "airflow-dev-worker-pods")
    pod = requested(dev.workers()["default"], "good-plain")
    maker = "system:serviceaccount:airflow-dev:airflow-blue-scheduler"
    unlisted = set(fields(version, DEFINITIONS[group])) - set(LISTED[group])
    taken = [field for field in unlisted if not refusals(policy, with_field(pod, group, field), maker)]
    assert taken == []


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_what_is_below_a_listed_field_has_been_looked_at(version: str) -> None:
    known = set(KNOWN.read_text().split())
    found = {
        path
        for group, definition in DEFINITIONS.items()
        for name, schema in fields(version, definition).items()
        if name in LISTED[group] and referred(schema) not in DEFINITIONS.values()
        for path in below(version, f"{group}.{name}", referred(schema))
    }
    assert sorted(found - known) == [], f"a new field: look at it, then add it to {KNOWN.name}"
