"""What the operator gets: the rules for one environment, with its own thresholds, and the metrics of both colours."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.environments.values import merge, read_values
from airflow_ops.paths import CHARTS, VALUES
from support.chart_rendering import HelmOutput, Render
from support.statsd_exporter import known_metrics

RULES = CHARTS / "platform/files/rules"


def platform(render: Render, environment: str = "staging", **monitoring: Any) -> list[dict[str, Any]]:
    """The shared release of an environment, with these settings of platform.monitoring."""
    return objects(render("airflow-platform", {"platform": {"monitoring": monitoring}}, environment))


def objects(output: HelmOutput) -> list[dict[str, Any]]:
    assert output.code == 0, output.error
    return output.objects


def rules(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Alert to its rule."""
    found = [one for one in manifests if one["kind"] == "PrometheusRule"]
    every = [rule for one in found for group in one["spec"]["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in every if "alert" in rule}


def written() -> dict[str, dict[str, Any]]:
    """Alert to its rule as files/rules has it."""
    contents = [yaml.safe_load(path.read_text()) for path in RULES.glob("*.yaml")]
    every = [rule for content in contents for group in content["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in every if "alert" in rule}


def test_development_asks_for_no_operator(render: Render) -> None:
    assert not [one for one in platform(render, "dev") if one["apiVersion"].startswith("monitoring.coreos.com")]


def test_an_overlay_asks_for_everything(render: Render) -> None:
    values = read_values(VALUES / "overlays/monitoring.yaml")
    manifests = objects(render("airflow-platform", values, "dev"))
    assert rules(manifests).keys() == written().keys()
    labels = [one["metadata"]["labels"] for one in manifests if one["apiVersion"].startswith("monitoring.coreos.com")]
    assert {label["release"] for label in labels} == {"prometheus"}


def test_the_tests_on_a_cluster_turn_no_alert_off(render: Render) -> None:
    values = merge(read_values(VALUES / "overlays/monitoring.yaml"), read_values(VALUES / "overlays/e2e.yaml"))
    found = rules(objects(render("airflow-platform", values, "dev")))
    assert found.keys() == written().keys()
    assert found["AirflowSchedulerDown"]["for"] == "20s"


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_an_environment_gets_every_rule_for_its_own_namespace(environment: str, render: Render) -> None:
    manifests = [one for one in platform(render, environment) if one["kind"] == "PrometheusRule"]
    assert {one["metadata"]["name"] for one in manifests} == {f"airflow-{path.stem}" for path in RULES.glob("*.yaml")}
    selects = yaml.safe_load((VALUES / f"{environment}.yaml").read_text())["platform"]["monitoring"]["labels"]
    for one in manifests:
        assert selects.items() <= one["metadata"]["labels"].items()
        plain = (RULES / f"{one['metadata']['name'].removeprefix('airflow-')}.yaml").read_text()
        mine = yaml.safe_load(plain.replace("airflow-prod", f"airflow-{environment}"))
        for group in mine["groups"]:
            for rule in (rule for rule in group["rules"] if "alert" in rule):
                url = f"https://git.example.com/data/airflow-platform/blob/main/{rule['annotations']['runbook_url']}"
                rule["annotations"]["runbook_url"] = url
        assert one["spec"] == mine


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_prometheus_reads_what_an_environment_gets(render: Render, tmp_path: Path) -> None:
    for one in platform(render, alerts={"AirflowQueueDeep": {"threshold": 250, "for": "1h"}}):
        if one["kind"] == "PrometheusRule":
            file = tmp_path / f"{one['metadata']['name']}.yaml"
            file.write_text(yaml.safe_dump(one["spec"]))
            answer = subprocess.run(
                ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
            )
            assert answer.returncode == 0, answer.stdout + answer.stderr


def test_an_environment_changes_single_alerts(render: Render) -> None:
    before = rules(platform(render))
    changes: Mapping[str, dict[str, Any]] = {
        "AirflowQueueDeep": {"threshold": 250.5, "for": "1h", "severity": "page"},
        "AirflowErrorBudgetBurnsFast": {"threshold": 6},
        "AirflowStatsdDown": {"enabled": False},
    }
    after = rules(platform(render, alerts=changes))
    assert before.keys() - after.keys() == {"AirflowStatsdDown"}
    queue = after["AirflowQueueDeep"]
    assert queue["expr"].endswith(" > 250.5")
    assert (queue["for"], queue["labels"]["severity"], queue["annotations"]["threshold"]) == ("1h", "page", "250.5")
    assert len(re.findall(r"> 6\b", after["AirflowErrorBudgetBurnsFast"]["expr"])) == 2
    assert "14.4" not in after["AirflowErrorBudgetBurnsFast"]["expr"]
    for alert in after.keys() - changes.keys():
        assert after[alert] == before[alert]


def test_every_threshold_can_be_changed(render: Render) -> None:
    having = [alert for alert, rule in written().items() if "threshold" in rule["annotations"]]
    after = rules(platform(render, alerts={alert: {"threshold": 123.25} for alert in having}))
    for alert in having:
        old = written()[alert]["annotations"]["threshold"]
        assert re.search(r"[<>] 123\.25(\s|$)", after[alert]["expr"]), alert
        assert not re.search(rf"[<>] {re.escape(old)}(\s|$)", after[alert]["expr"]), alert


@pytest.mark.parametrize(
    ("alerts", "message"),
    [
        (
            {"AirflowQueueDeeper": {"enabled": False}},
            "names AirflowQueueDeeper, which is not an alert: take one of Airflow",
        ),
        (
            {"AirflowSchedulerDown": {"threshold": 3}},
            "AirflowSchedulerDown.threshold is set, but this alert has no threshold",
        ),
        ({"AirflowQueueDeep": {"treshold": 3}}, "'treshold' not allowed"),
        ({"AirflowQueueDeep": {"for": "ten minutes"}}, "alerts/AirflowQueueDeep/for"),
        ({"AirflowQueueDeep": {"severity": "critical"}}, "alerts/AirflowQueueDeep/severity"),
    ],
)
def test_a_wrong_change_is_an_error_that_names_it(alerts: dict[str, Any], message: str, render: Render) -> None:
    output = render("airflow-platform", {"platform": {"monitoring": {"alerts": alerts}}}, "staging")
    assert output.code != 0
    assert message in output.error


def taken(endpoint: dict[str, Any], name: str) -> bool:
    """Whether a series of that name passes the relabelling of an endpoint."""
    for rule in endpoint["metricRelabelings"]:
        assert rule["sourceLabels"] == ["__name__"]
        if bool(re.fullmatch(rule["regex"], name)) is not (rule["action"] == "keep"):
            return False
    return True


def test_what_a_task_sends_to_statsd_passes_for_no_other_metric(render: Render) -> None:
    monitors = {one["metadata"]["name"]: one["spec"] for one in platform(render) if one["kind"] == "ServiceMonitor"}
    (endpoint,) = monitors["airflow-statsd"]["endpoints"]
    metrics = known_metrics()
    sent = {name for name, row in metrics.items() if row["sent_as"] != "-"}
    others = metrics.keys() - sent
    assert {"airflow_database_up", "kube_pod_info", "up"} <= others
    assert sorted(name for name in sent if not taken(endpoint, name)) == []
    assert sorted(name for name in others if taken(endpoint, name)) == []


@pytest.mark.parametrize("colour", ["blue", "green"])
def test_the_monitor_finds_the_exporter_of_a_colour(colour: str, render: Render) -> None:
    monitors = {one["metadata"]["name"]: one["spec"] for one in platform(render) if one["kind"] == "ServiceMonitor"}
    monitor = monitors["airflow-statsd"]
    found = []
    for one in objects(render(f"airflow-{colour}", environment="staging")):
        labels = one["metadata"].get("labels") or {}
        selected = monitor["selector"]["matchLabels"].items() <= labels.items() and all(
            labels.get(item["key"]) in item["values"] for item in monitor["selector"]["matchExpressions"]
        )
        if one["kind"] == "Service" and selected:
            found.append(one)
    (service,) = found
    # Rules find the exporter by its job, which is the Service's name.
    assert re.fullmatch("airflow-(blue|green)-statsd", service["metadata"]["name"])
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert [ports[endpoint["port"]] for endpoint in monitor["endpoints"]] == [9102]


def test_a_changed_mapping_reaches_the_exporter_and_replaces_its_pod(render: Render) -> None:
    def rendered(**values: Any) -> tuple[Any, Any]:
        manifests = {
            one["kind"]: one
            for one in objects(render("airflow-blue", values, "staging"))
            if one["metadata"]["name"] == "airflow-blue-statsd"
        }
        return (
            yaml.safe_load(manifests["ConfigMap"]["data"]["mappings.yml"]),
            manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"],
        )

    statsd = yaml.safe_load((VALUES / "base.yaml").read_text())["airflow"]["statsd"]
    mapping, annotations = rendered()
    assert mapping == {"mappings": statsd["overrideMappings"], "defaults": {"ttl": statsd["cache"]["ttl"]}}
    changed, others = rendered(airflow={"statsd": {"overrideMappings": statsd["overrideMappings"][1:]}})
    assert changed != mapping
    assert others != annotations


def database_exporter(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The objects of the database exporter by kind; its NetworkPolicy is not made with it."""
    found = {one["kind"]: one for one in manifests if one["metadata"]["name"] == "airflow-database-exporter"}
    return {kind: one for kind, one in found.items() if kind != "NetworkPolicy"}


def test_the_database_exporter_is_where_monitoring_is(render: Render) -> None:
    assert set(database_exporter(platform(render))) == {"ConfigMap", "Service", "Deployment", "ServiceMonitor"}
    assert not database_exporter(platform(render, "dev"))


def test_the_monitor_finds_the_database_exporter_under_the_name_that_rules_know(render: Render) -> None:
    found = database_exporter(platform(render))
    service, monitor, pod = found["Service"], found["ServiceMonitor"]["spec"], found["Deployment"]["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == [
        port["name"] for port in service["spec"]["ports"]
    ]
    (container,) = pod["spec"]["containers"]
    assert [port["name"] for port in container["ports"]] == [port["targetPort"] for port in service["spec"]["ports"]]
    assert f'job="{service["metadata"]["name"]}"' in written()["AirflowDatabaseNotWatched"]["expr"]


def test_the_database_exporter_goes_straight_to_the_database_and_nowhere_else(render: Render) -> None:
    pod = database_exporter(platform(render, "prod"))["Deployment"]["spec"]["template"]["spec"]
    (variable,) = pod["containers"][0]["env"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "airflow-metadata-reader", "key": "connection-direct"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_changed_exporter_or_rotated_secret_replaces_its_pod(render: Render) -> None:
    def annotations(**values: Any) -> dict[str, str]:
        manifests = objects(render("airflow-platform", values, "staging"))
        found = database_exporter(manifests)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        return dict(found)

    script = (CHARTS / "platform/files/scripts/database_exporter.py").read_bytes()
    assert annotations()["airflow-platform.io/script-checksum"] == hashlib.sha256(script).hexdigest()
    assert annotations() != annotations(**{"global": {"secretsRevision": "2"}})


def alerts_of(name: str) -> set[str]:
    groups = yaml.safe_load((RULES / f"{name}.yaml").read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def test_without_the_database_exporter_its_alerts_are_not_there_to_fire(render: Render) -> None:
    manifests = platform(render, databaseExporter={"enabled": False}, alerts={"AirflowQueueWaitLong": {"threshold": 9}})
    assert not database_exporter(manifests)
    assert written().keys() - rules(manifests).keys() == alerts_of("database")


def test_without_the_git_mirror_its_alerts_are_not_there_to_fire(render: Render) -> None:
    own = {"gitMirror": {"enabled": False}, "monitoring": {"alerts": {"AirflowGitFetchOld": {"threshold": 1800}}}}
    manifests = objects(render("airflow-platform", {"platform": own}, "staging"))
    assert written().keys() - rules(manifests).keys() == alerts_of("git-mirror")
    assert "airflow-git-mirror" not in {one["metadata"]["name"] for one in manifests if one["kind"] == "ServiceMonitor"}


def test_the_monitor_finds_every_replica_of_the_git_mirror_once(render: Render) -> None:
    manifests = platform(render)
    monitor = one_named(manifests, "ServiceMonitor", "airflow-git-mirror")["spec"]
    (endpoint,) = monitor["endpoints"]
    services = [one for one in manifests if one["kind"] == "Service"]
    selected = [
        one for one in services if monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    ports = [port for one in selected for port in one["spec"]["ports"] if port["name"] == endpoint["port"]]
    assert [(port["port"], port["targetPort"]) for port in ports] == [(9104, "metrics")]
    pod = one_named(manifests, "StatefulSet", "airflow-git-mirror")["spec"]["template"]["spec"]
    _, fetch = pod["containers"]
    assert fetch["ports"] == [{"name": "metrics", "containerPort": 9104}]
    assert {"name": "METRICS_PORT", "value": "9104"} in fetch["env"]
    script = one_named(manifests, "ConfigMap", "airflow-git-mirror")["data"]["git_mirror_exporter.py"]
    assert script == (CHARTS / "platform/files/scripts/git_mirror_exporter.py").read_text()


def test_where_nobody_watches_the_git_mirror_has_no_metrics(render: Render) -> None:
    manifests = platform(render, "dev")
    pod = one_named(manifests, "StatefulSet", "airflow-git-mirror")["spec"]["template"]["spec"]
    _, fetch = pod["containers"]
    assert [variable["name"] for variable in fetch["env"]] == ["HOME"]
    assert "ports" not in fetch
    headless = one_named(manifests, "Service", "airflow-git-mirror-headless")
    assert [port["name"] for port in headless["spec"]["ports"]] == ["git"]


def one_named(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def test_the_monitor_finds_the_exporters_beside_the_pgbouncers(render: Render) -> None:
    monitors = {one["metadata"]["name"]: one["spec"] for one in platform(render) if one["kind"] == "ServiceMonitor"}
    monitor = monitors["airflow-pgbouncer"]
    services = {
        one["metadata"]["name"]: one
        for one in objects(render("airflow-blue", environment="staging"))
        if one["kind"] == "Service"
    }
    service = services["airflow-blue-pgbouncer"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    without = objects(render("airflow-platform", {"platform": {"pgbouncer": {"enabled": False}}}, "staging"))
    assert "airflow-pgbouncer" not in {one["metadata"]["name"] for one in without if one["kind"] == "ServiceMonitor"}
