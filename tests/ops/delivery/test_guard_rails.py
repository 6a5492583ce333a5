"""What a pull request must not do to the environments that others work in, however good its reasons look."""

import re
from typing import Any

import pytest

from airflow_ops.environments.environment import Environment, read_entries
from airflow_ops.paths import ROOT

BROUGHT = {name: entry.argocd for name, entry in read_entries(ROOT).items() if entry.argocd}
TAG = re.compile(r"v(\d+\.\d+\.\d+)")


@pytest.fixture(params=BROUGHT)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def values(name: str) -> dict[str, Any]:
    return Environment.load(name).values


def test_they_are_staging_and_prod() -> None:
    assert list(BROUGHT) == ["staging", "prod"], "in the order in which they take a tag"


def test_manifests_come_from_a_tag(name: str) -> None:
    """A branch would bring each merge at once, with images that are built only afterwards."""
    found = BROUGHT[name]
    assert found
    assert TAG.fullmatch(found.revision)


def test_dags_and_image_are_those_of_one_tag(values: dict[str, Any]) -> None:
    """A branch would bring DAGs that nobody has released; `airflow-ops release` writes both."""
    own = values["global"]
    tag = TAG.fullmatch(own["dagBundle"]["trackingRef"])
    assert tag
    assert own["image"]["tag"] == f"{own['airflowVersion']}-{tag[1]}"


def test_secrets_come_from_a_store_and_state_is_outside_of_the_cluster(values: dict[str, Any]) -> None:
    platform = values["platform"]
    assert platform["secrets"]["mode"] == "external"
    assert not platform["database"]["enabled"]
    assert not platform["gitOrigin"]["enabled"]
    assert not platform["objectStore"]["enabled"]
    assert platform["backup"]["uri"].startswith("s3://")


def test_what_protects_is_on(values: dict[str, Any]) -> None:
    platform = values["platform"]
    for key in ("networkPolicy", "admission", "monitoring", "backup", "pgbouncer"):
        assert platform[key]["enabled"], key
    assert platform["gitMirror"]["replicas"] >= 2


def test_a_person_promotes_in_production() -> None:
    assert Environment.load("prod").values["platform"]["operations"]["promotion"] == "manual"
