"""What a rehearsal says about an upgrade, and the Job that runs it; tests/e2e/test_upgrade_migration.py runs one."""

import json
from typing import Any

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours.record import Record, Side
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.recovery import backup as backups
from airflow_ops.upgrades import rehearsal

CLUSTER = Cluster(Environment.load("dev"), "test")


def record() -> Record:
    blue, green = (
        Side(colour=colour, version=version, image=f"airflow:{version}", replicas={})
        for colour, version in zip(Colour, ("3.2.2", "3.3.2"), strict=True)
    )
    return Record(id="7", source=blue, target=green, digest="d", migrates=True, backup="a-backup")


def found(**changes: Any) -> dict[str, Any]:
    migrated = {"seconds": 3.0, "tries": 1, "bridged": ["dag.x"], "bytes": 9, "incompatible": [], "lost": []}
    trial = {"problems": [], "start_seconds": 8.0, "seconds": 30.0}
    result = {"migrated": migrated, "former": dict(trial), "new": dict(trial)}
    for path, value in changes.items():
        part, key = path.split("_", 1)
        result[part][key] = value
    return result


def test_where_both_versions_work_the_upgrade_goes_on() -> None:
    assert rehearsal.judge("dev", record(), found()).bridged == ["dag.x"]


@pytest.mark.parametrize(
    ("changes", "message", "fix"),
    [
        ({"new_problems": ["scheduler ended"]}, "Airflow 3.3.2 does not work on a migrated copy: scheduler", "log of"),
        ({"migrated_lost": ["table t has 1 rows instead of 2"]}, "loses rows: table t", "whether you need them"),
        ({"migrated_incompatible": ["column a.b is gone"]}, "Airflow 3.2.2 does not work on the schema", "window"),
        ({"former_problems": ["GET pools answers 500"]}, "schema of 3.3.2: GET pools answers 500", "window"),
        ({"migrated_seconds": 61}, "the migration takes 61 s", "window of 2 minutes"),
    ],
)
def test_otherwise_it_ends_and_says_why(changes: dict[str, Any], message: str, fix: str) -> None:
    with pytest.raises(ProblemError) as caught:
        rehearsal.judge("dev", record(), found(**changes))
    assert message in caught.value.message
    assert fix in caught.value.fix


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    env = [{"name": "CONNECTION", "valueFrom": {}}, {"name": "BACKUP_KEY", "valueFrom": {}}]
    container = {"env": env, "image": "airflow:3.2.2", "volumeMounts": ["m"]}
    pod = {
        "initContainers": [{"name": "connection", **container}, {"name": "dump", **container, "image": "postgres"}],
        "containers": [{"name": "store", **container}],
    }
    template = {
        "metadata": {"labels": {}},
        "spec": {"activeDeadlineSeconds": 600, "template": {"metadata": {}, "spec": pod}},
    }
    monkeypatch.setattr(backups, "job_template", lambda _cluster: template)
    return rehearsal.job(CLUSTER, record())


def test_each_step_runs_in_its_image(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    steps = [*pod["initContainers"], *pod["containers"]]
    assert [(step["name"], step["image"]) for step in steps] == [
        ("fetch", "airflow:3.2.2"),
        ("load", "postgres"),
        ("migrate", "airflow:3.3.2"),
        ("former", "airflow:3.2.2"),
        ("new", "airflow:3.3.2"),
    ]
    assert steps[0]["command"][-1] == "a-backup"
    assert {"name": "RESTORED", "value": "airflow_rehearsal"} in steps[0]["env"], "nor that of a restore"
    assert json.loads(steps[2]["command"][-1])["database"] == "airflow_rehearsal", "never the database that works"


def test_only_the_step_that_fetches_the_backup_can_authenticate_one(job: dict[str, Any]) -> None:
    """Airflow and its DAGs run in the others."""
    pod = job["spec"]["template"]["spec"]
    steps = [*pod["initContainers"], *pod["containers"]]
    assert [step["name"] for step in steps if "BACKUP_KEY" in json.dumps(step)] == ["fetch"]


def test_a_command_that_was_killed_finds_its_job_again(job: dict[str, Any]) -> None:
    assert job["metadata"]["name"] == "airflow-upgrade-rehearse-7"
