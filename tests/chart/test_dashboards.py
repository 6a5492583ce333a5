"""What Grafana's sidecar finds: the dashboards of one environment, with its own thresholds and runbooks."""

import json
from typing import Any

import pytest

from airflow_ops.monitoring.dashboards.command import load, panels
from support.chart_rendering import HelmOutput, Render

MEBIBYTE = 1024 * 1024


def found(output: HelmOutput) -> dict[str, dict[str, Any]]:
    """Name to ConfigMap of each dashboard."""
    assert output.code == 0, output.error
    maps = [one for one in output.objects if one["kind"] == "ConfigMap"]
    return {one["metadata"]["name"]: one for one in maps if "-dashboard-" in one["metadata"]["name"]}


def rendered(render: Render, environment: str = "staging", **monitoring: Any) -> dict[str, dict[str, Any]]:
    return found(render("airflow-platform", {"platform": {"monitoring": monitoring}}, environment))


def content(maps: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """The dashboard in the ConfigMap whose name ends so."""
    (data,) = [one["data"] for key, one in maps.items() if key.endswith(f"-dashboard-{name}")]
    ((_, text),) = data.items()
    return dict(json.loads(text))


def test_there_are_none_where_monitoring_is_off(render: Render) -> None:
    assert rendered(render, "dev") == {}
    assert rendered(render, dashboards={"enabled": False}) == {}


def test_an_environment_gets_every_dashboard_under_its_own_name(render: Render) -> None:
    maps = rendered(render)
    assert set(maps) == {f"airflow-staging-dashboard-{name}" for name in load()}
    for one in maps.values():
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"grafana_folder": "Airflow"}
        assert one["metadata"]["namespace"] == "airflow-staging"
        assert "airflow-prod" not in json.dumps(one)
        assert len(json.dumps(one)) < MEBIBYTE
    assert content(maps, "overview")["uid"] == "airflow-staging-overview"


def test_where_the_sidecar_looks_is_a_value(render: Render) -> None:
    own = {"labels": {"dashboards": "yes"}, "annotations": {"folder": "Data"}, "namespace": "monitoring"}
    for one in rendered(render, dashboards=own).values():
        assert one["metadata"]["labels"]["dashboards"] == "yes"
        assert one["metadata"]["annotations"]["folder"] == "Data"
        assert one["metadata"]["namespace"] == "monitoring"


def test_nothing_but_names_and_runbooks_changes_without_settings(render: Render) -> None:
    maps = rendered(render)
    for name, plain in load().items():
        expected = json.dumps(plain).replace("airflow-prod", "airflow-staging")
        expected = expected.replace(
            "docs/runbooks", "https://git.example.com/data/airflow-platform/blob/main/docs/runbooks"
        )
        assert content(maps, name) == json.loads(expected)


def line(dashboard: dict[str, Any], title: str) -> Any:
    (panel,) = [one for one in panels(dashboard) if one["title"] == title]
    return panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"]


def test_a_changed_threshold_moves_the_line(render: Render) -> None:
    alerts = {
        "AirflowQueueDeep": {"threshold": 250},
        "AirflowTaskFailures": {"threshold": 0},
        "AirflowPoolFull": {"for": "1h"},
    }
    before, after = rendered(render), rendered(render, alerts=alerts)
    for dashboard in ("overview", "scheduler"):
        assert (line(content(before, dashboard), "Queued tasks"), line(content(after, dashboard), "Queued tasks")) == (
            100,
            250,
        )
    assert line(content(after, "dags"), "Tries that failed, 1 h") == 0.001
    assert line(content(after, "dags"), "Pools in use") == line(content(before, "dags"), "Pools in use")
    objective = "Queue wait, P95"
    changed = rendered(render, alerts={"AirflowQueueWaitLong": {"threshold": 300}})
    assert line(content(changed, "scheduler"), "Wait of a run's first task") == 300
    assert line(content(changed, "overview"), objective) == 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folder": "Airflow"}, "folder"),
        ({"labels": {}}, "dashboards/labels"),
        ({"namespace": "My Namespace"}, "dashboards/namespace"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(settings: dict[str, Any], message: str, render: Render) -> None:
    if settings.get("labels") == {}:
        settings = {"labels": {"grafana_dashboard": None}}
    output = render("airflow-platform", {"platform": {"monitoring": {"dashboards": settings}}}, "staging")
    assert output.code != 0
    assert message in output.error
