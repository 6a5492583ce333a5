"""Which Prometheus of a cluster is asked, and with what."""

from typing import Any

import pytest

from airflow_ops.monitoring.prometheus import selector_text


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({}, ""),
        ({"matchLabels": {"release": "prometheus", "team": "data"}}, "release=prometheus,team=data"),
        (
            {
                "matchLabels": {"release": "prometheus"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "old", "operator": "NotIn", "values": ["yes"]},
                    {"key": "team", "operator": "Exists"},
                    {"key": "gone", "operator": "DoesNotExist"},
                ],
            },
            "release=prometheus,tier in (a,b),old notin (yes),team,!gone",
        ),
    ],
)
def test_a_selector_is_asked_for_as_the_api_takes_it(selector: dict[str, Any], text: str) -> None:
    assert selector_text(selector) == text
