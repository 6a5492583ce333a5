"""A colour that is installed and does not work yet: what `upgrade` gives to Helm, in each environment."""

from typing import Any

import pytest

from airflow_ops.colours.live import API_SERVER, SINGLE, rendered_replicas
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Manifest, Release, parse, template
from airflow_ops.upgrades.steps import STANDBY
from support.chart_rendering import ENVIRONMENTS, needs_chart


def manifests(name: str, *settings: str) -> list[Manifest]:
    needs_chart()
    release = Release("airflow-green", "airflow", Environment.load(name), settings)
    return parse(release, template(release))


def specs(found: list[Manifest], kind: str) -> dict[str, Any]:
    return {each.object["metadata"]["labels"]["component"]: each.object["spec"] for each in found if each.kind == kind}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_nothing_of_it_works_and_nothing_else_differs(name: str) -> None:
    working, standby = manifests(name), manifests(name, *STANDBY)
    for component in SINGLE:
        assert specs(standby, "Deployment")[component]["replicas"] == 0
        assert specs(working, "Deployment")[component]["replicas"] > 0
    for each in standby:
        component = each.object["metadata"].get("labels", {}).get("component")
        if each.kind == "Deployment" and component in SINGLE:
            each.object["spec"]["replicas"] = specs(working, "Deployment")[component]["replicas"]
    assert [each.object for each in standby] == [each.object for each in working]


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_no_manifest_says_how_many_api_servers_there_are_where_an_autoscaler_does(name: str) -> None:
    """Helm turns a number that is there once and then missing into 1 (helm/helm#12650)."""
    for found in (manifests(name), manifests(name, *STANDBY)):
        assert "replicas" not in specs(found, "Deployment")[API_SERVER]
        (scaler,) = (each.object for each in found if each.kind == "HorizontalPodAutoscaler")
        assert scaler["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"] == f"airflow-green-{API_SERVER}"
        assert scaler["spec"]["minReplicas"] >= 2


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_upgrade_knows_how_many_pods_of_each_there_are(name: str) -> None:
    found = rendered_replicas(manifests(name))
    assert {API_SERVER, "statsd", *SINGLE} <= found.keys()
    assert all(count >= 1 for count in found.values())
    assert found[API_SERVER] == {"dev": 1}.get(name, 2)
    assert ("pgbouncer" in found) is (name != "dev")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_of_what_works_in_one_colour_only_starts_through_the_gate(name: str) -> None:
    found = specs(manifests(name), "Deployment")
    for component in SINGLE:
        pod = found[component]["template"]["spec"]
        container = next(each for each in pod["containers"] if each["name"] == component)
        command = f"exec python /opt/airflow/start/start_component.py {component} airflow-green"
        assert container["args"] == ["bash", "-c", command]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted["start"] == "/opt/airflow/start"
        (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "start")
        assert volume["configMap"]["name"] == "airflow-green-start"
