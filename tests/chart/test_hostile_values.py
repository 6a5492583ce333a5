"""Values that nobody means to write: a key of the environment becomes what it says, or is refused by its name."""

import json
from typing import Any

import pytest

from airflow_ops.checks.policies import LARGEST_OBJECT, check
from airflow_ops.manifests.objects import Manifest
from support.chart_rendering import Charts


def below(path: str, value: Any) -> dict[str, Any]:
    """A value at a path whose keys are separated by slashes."""
    for key in reversed(path.split("/")):
        value = {key: value}
    return value  # type: ignore[no-any-return]


REFUSED = [
    ("platform/volumes/storageClassName", "a\nevil: b"),
    ("platform/volumes/storageClassName", "fast\n"),
    ("platform/volumes/storageClassName", "$(id)"),
    ("platform/volumes/storageClassName", ["fast"]),
    ("platform/quota/hard/pods", "-5"),
    ("platform/quota/hard/pods", -5),
    ("platform/quota/hard/pods", "5\nevil: b"),
    ("platform/quota/tasks/requests.memory", "NaN"),
    ("platform/quota/hard", [{"pods": 5}]),
    ("global/environment", "dev\nevil"),
    ("global/image/tag", "3\nevil: b"),
    ("global/image/repository", "[/]"),
    ("global/activeColour", "*"),
    ("platform/variables/a", 5),
]


@pytest.mark.parametrize(("path", "value"), REFUSED, ids=[f"{path}={value!r}" for path, value in REFUSED])
def test_it_is_refused_and_named(charts: Charts, path: str, value: Any) -> None:
    output = charts.render("airflow-platform", below(path, value))
    assert output.code != 0
    assert path in output.error


@pytest.mark.parametrize("text", ["a\nevil: b", "[/]", "*a", "a: &b c", "\u202e", "'\""])
def test_a_variable_is_what_it_says(charts: Charts, text: str) -> None:
    output = charts.render("airflow-platform", below("platform/variables/hostile", text))
    assert output.code == 0, output.error
    files = [each["data"]["variables.json"] for each in output.objects if "variables.json" in (each.get("data") or {})]
    assert [json.loads(file)["hostile"] for file in files] == [text]


@pytest.mark.parametrize("quota", [{"pods": "80"}, {"pods": 80}, {"requests.memory": "1.5Gi", "requests.cpu": "500m"}])
def test_a_quota_is_taken(charts: Charts, quota: dict[str, Any]) -> None:
    output = charts.render("airflow-platform", below("platform/quota/hard", quota))
    assert output.code == 0, output.error


@pytest.mark.parametrize(
    ("kind", "part"), [("ConfigMap", "data"), ("ConfigMap", "binaryData"), ("Secret", "stringData")]
)
def test_an_object_that_is_too_large_for_kubernetes_is_named(kind: str, part: str) -> None:
    def breaches(length: int) -> list[str]:
        found = {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": "big"},
            part: {"small": "a", "large": "b" * length},
        }
        return [
            str(each) for each in check([Manifest("airflow-platform", "airflow-dev", found)]) if "bytes" in str(each)
        ]

    assert breaches(LARGEST_OBJECT - 1) == []
    (breach,) = breaches(LARGEST_OBJECT)
    assert "big" in breach
    assert f"{part}.large" in breach
