"""Every alert reaches somebody, and one cause wakes once: asked of amtool and of a real Alertmanager."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from airflow_ops.paths import CHARTS, ROOT
from support.alert_cases import load_alerts
from support.alertmanager import Alertmanager, Labels, find_alertmanager, running_alertmanager

pytestmark = pytest.mark.xdist_group("routing")  # what the module makes is made once
OPS = ROOT / ".venv/bin/airflow-ops"
INHIBITIONS = yaml.safe_load((CHARTS / "platform/files/inhibitions.yaml").read_text())
ALERTS = load_alerts()


def ops(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OPS, *arguments], capture_output=True, text=True, check=False)


def labels(alert: str, **more: str) -> Labels:
    """An alert of production as Prometheus would send it."""
    own = {key: value for key, value in ALERTS[alert]["labels"].items() if key != "namespace"}
    return {"alertname": alert, "namespace": "airflow-prod"} | own | more


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH")
    answer = ops("alerts", "routing", "prod", "--overlay", "alert-routing")
    assert answer.returncode == 0, answer.stderr
    file = tmp_path_factory.mktemp("routing") / "alertmanager.yml"
    file.write_text(answer.stdout)
    return file


@pytest.fixture(scope="module")
def alertmanager(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    if find_alertmanager() is None:
        pytest.skip("alertmanager is not on PATH")
    with running_alertmanager(config, tmp_path_factory.mktemp("alertmanager")) as running:
        yield running


def amtool(*arguments: str) -> str:
    if shutil.which("amtool") is None:
        pytest.skip("amtool is not on PATH")
    answer = subprocess.run(["amtool", *arguments], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout.strip()


def receiver(config: Path, alert: Labels) -> str:
    pairs = [f"{key}={value}" for key, value in alert.items()]
    return amtool("config", "routes", "test", f"--config.file={config}", *pairs)


def test_alertmanager_takes_the_configuration_and_it_holds_no_secret(config: Path) -> None:
    assert "SUCCESS" in amtool("check-config", str(config))
    receivers = yaml.safe_load(config.read_text())["receivers"]
    settings = [item for one in receivers for kind in one if kind != "name" for item in one[kind]]
    assert settings
    for item in settings:
        (file,) = [value for key, value in item.items() if key in ("routing_key_file", "api_url_file")]
        assert file.startswith("/etc/alertmanager/secrets/airflow-alerts/")


def test_every_alert_reaches_those_whom_its_severity_names(config: Path) -> None:
    expected = {"page": "airflow-prod/pages", "ticket": "airflow-prod/tickets"}
    for alert, rule in ALERTS.items():
        assert receiver(config, labels(alert)) == expected[rule["labels"]["severity"]], alert


@pytest.mark.parametrize(
    ("alert", "more", "expected"),
    [
        ("AirflowTaskFailures", {"dag_id": "flights_ingest_daily"}, "airflow-prod/team-flights"),
        ("AirflowDeadlineMissed", {"dag_id": "flights_ingest_daily"}, "airflow-prod/team-flights"),
        ("AirflowTaskFailures", {"dag_id": "platform_check_health"}, "airflow-prod/tickets"),
        ("AirflowTaskFailures", {"dag_id": "my_flights_load"}, "airflow-prod/tickets"),
        ("AirflowHealthCheckFailed", {"dag_id": "flights_ingest_daily"}, "airflow-prod/pages"),
        ("AirflowSchedulerDown", {"namespace": "airflow-staging"}, "nobody"),
    ],
)
def test_a_team_hears_of_its_own_dags(alert: str, more: Labels, expected: str, config: Path) -> None:
    assert receiver(config, labels(alert, **more)) == expected


def test_inhibitions_name_alerts_that_there_are() -> None:
    for rule in INHIBITIONS:
        for item in rule["sourceMatch"] + rule["targetMatch"]:
            if item["name"] == "alertname":
                for pattern in item["value"].split("|"):
                    assert any(re.fullmatch(pattern, alert) for alert in ALERTS), pattern


def names(alerts: list[Labels]) -> set[str]:
    return {alert["alertname"] for alert in alerts}


def test_the_scheduler_down_is_one_cause(alertmanager: Alertmanager) -> None:
    silent = ["AirflowQueueDeep", "AirflowQueueWaitLong", "AirflowPoolStarving", "AirflowHealthCheckMissing"]
    late = labels("AirflowDeadlineMissed", dag_id="flights_ingest_daily")
    heartbeat = labels("AirflowErrorBudgetBurnsFast", slo="heartbeat")
    sent = [
        labels("AirflowSchedulerDown"),
        labels("AirflowErrorBudgetBurnsFast", slo="parse"),
        labels("AirflowWorkerOOMKilled"),
        labels("AirflowQueueDeep", namespace="airflow-staging"),
    ]
    kept = [*map(labels, silent), late, heartbeat]
    found = alertmanager.kept_back(kept + sent)
    assert {frozenset(one.items()) for one in found} == {frozenset(one.items()) for one in kept}


def test_nothing_is_kept_back_without_its_cause(alertmanager: Alertmanager) -> None:
    tickets = [labels(alert) for alert, rule in ALERTS.items() if rule["labels"]["severity"] == "ticket"]
    monitoring = {"AirflowKubeStateMissing"}
    assert not alertmanager.kept_back([one for one in tickets if one["alertname"] not in monitoring])


def test_the_database_away_leaves_one_page(alertmanager: Alertmanager) -> None:
    others = [labels(alert) for alert, rule in ALERTS.items() if rule["labels"]["component"] != "database"]
    kept = alertmanager.kept_back([labels("AirflowDatabaseUnreachable"), *others])
    assert names(kept) == names(others)


def test_the_mirror_down_lacks_replicas_by_its_nature(alertmanager: Alertmanager) -> None:
    lacking = [labels("AirflowComponentUnavailable", statefulset=f"airflow-{name}") for name in ("git-mirror", "other")]
    kept = alertmanager.kept_back([labels("AirflowGitMirrorDown"), *lacking])
    assert [one["statefulset"] for one in kept] == ["airflow-git-mirror"]


def test_a_component_that_is_down_explains_its_own_heartbeat(alertmanager: Alertmanager) -> None:
    old = [labels("AirflowHeartbeatOld", job_type=kind) for kind in ("DagProcessorJob", "TriggererJob")]
    kept = alertmanager.kept_back([labels("AirflowDagProcessorDown"), *old])
    assert [one["job_type"] for one in kept] == ["DagProcessorJob"]


@pytest.mark.parametrize(
    ("cause", "kept", "sent"),
    [
        ("AirflowDagProcessorDown", {"AirflowDagCountDropped", "AirflowDagParseSlow"}, {"AirflowTaskFailures"}),
        ("AirflowTriggererDown", {"AirflowTriggererFull"}, {"AirflowDagParseSlow"}),
        ("AirflowApiServerDown", {"AirflowTaskFailures", "AirflowCanaryFailed"}, {"AirflowDagImportErrors"}),
        (
            "AirflowGitMirrorDown",
            {"AirflowTaskFailures", "AirflowHealthCheckFailed", "AirflowGitFetchOld"},
            {"AirflowDagImportErrors", "AirflowWorkerOOMKilled"},
        ),
        ("AirflowPodCreationFailing", {"AirflowQueueDeep", "AirflowWorkerPending"}, {"AirflowTaskFailures"}),
        (
            "AirflowStatsdDown",
            {"AirflowSchedulerLoopSlow", "AirflowTriggererFull"},
            {"AirflowHeartbeatOld", "AirflowWorkerOOMKilled"},
        ),
        (
            "AirflowKubeStateMissing",
            {"AirflowWorkerPending", "AirflowUpgradeStuck", "AirflowCronJobFailing"},
            {"AirflowQueueDeep", "AirflowVolumeAlmostFull"},
        ),
        ("AirflowWorkerStuck", {"AirflowWorkerOOMKilled"}, {"AirflowTaskFailures"}),
        ("AirflowHealthCheckFailed", set(), {"AirflowTaskFailures"}),
    ],
)
def test_a_cause_keeps_its_consequences_back(
    cause: str, kept: set[str], sent: set[str], alertmanager: Alertmanager
) -> None:
    assert names(alertmanager.kept_back([labels(alert) for alert in {cause} | kept | sent])) == kept


def test_a_budget_that_burns_fast_needs_no_ticket_of_the_same_objective(alertmanager: Alertmanager) -> None:
    fast = labels("AirflowErrorBudgetBurnsFast", slo="tasks")
    slow = [labels("AirflowErrorBudgetBurnsSlowly", slo=slo) for slo in ("tasks", "parse")]
    assert [one["slo"] for one in alertmanager.kept_back([fast, *slow])] == ["tasks"]
