"""Sizes by name, as DAGs and pod templates use them."""

import re

import pytest

from shared.authoring.resources import resources, sizes

UNITS = {"m": 0.001, "": 1, "Mi": 2**20, "Gi": 2**30}


def number(quantity: str) -> float:
    """A Kubernetes quantity as a number: cores or bytes."""
    digits, unit = re.fullmatch(r"([0-9.]+)(\D*)", quantity).groups()  # type: ignore[union-attr]
    return float(digits) * UNITS[unit]


def test_the_sizes_that_the_charts_and_dags_agree_on_exist() -> None:
    assert list(sizes()) == ["default", "small", "large", "memory", "spot", "scratch"]


def test_a_size_names_its_template() -> None:
    assert resources("large") == {"pod_template_file": "/opt/airflow/pod_templates/large.yaml"}


def test_an_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'huge' does not exist: use one of default, small, .* \(.*sizes\.yaml\)"):
        resources("huge")


@pytest.mark.parametrize("name", sizes())
def test_a_size_has_room_for_a_worker(name: str) -> None:
    """A worker's own Python takes about 300 MiB and 2.5 CPU seconds; what a pod asks for it may also use."""
    size = sizes()[name]

    assert size.model_fields_set <= {"description", "requests", "limits", "tolerations", "affinity"}
    assert set(size.requests) == set(size.limits) == {"cpu", "memory", "ephemeral-storage"}
    assert number(size.requests["memory"]) >= 320 * 2**20
    assert number(size.limits["cpu"]) >= 1
    for resource, request in size.requests.items():
        assert number(request) <= number(size.limits[resource]), resource
