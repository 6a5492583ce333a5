"""Worker pods: they run user code."""

from typing import Any

import pytest
import yaml

from airflow_ops.paths import ROOT
from support.chart_rendering import Render, Rendered

SIZES: dict[str, Any] = yaml.safe_load((ROOT / "dags/config/sizes.yaml").read_text())


def base(pod: dict[str, Any]) -> dict[str, Any]:
    """The container that runs the task; Airflow wants it first."""
    assert pod["spec"]["containers"][0]["name"] == "base"
    return pod["spec"]["containers"][0]


def test_there_is_one_template_a_size_with_its_resources(environment: Rendered) -> None:
    workers = environment.workers()
    assert workers.keys() == SIZES.keys()
    for size, pod in workers.items():
        assert base(pod)["resources"] == {part: SIZES[size][part] for part in ("requests", "limits")}
        assert pod["metadata"]["labels"]["size"] == size


def test_the_templates_are_where_dags_and_the_executor_look(environment: Rendered) -> None:
    scheduler = environment.one("Deployment", "airflow-blue-scheduler")["spec"]["template"]["spec"]
    mounts = {m["name"]: m for m in scheduler["containers"][0]["volumeMounts"]}
    assert mounts["pod-templates"]["mountPath"] == "/opt/airflow/pod_templates"
    assert "subPath" not in mounts["pod-templates"], "a changed template would need a restart"
    others = [m["mountPath"] for m in scheduler["containers"][0]["volumeMounts"] if m["name"] != "pod-templates"]
    assert not [path for path in others if path.startswith("/opt/airflow/pod_templates/")], "keeps the folder out"
    config = environment.one("ConfigMap", "airflow-blue-config")["data"]["airflow.cfg"]
    assert "pod_template_file = /opt/airflow/pod_templates/default.yaml" in config


def test_no_secret_of_airflows_reaches_a_worker(environment: Rendered) -> None:
    secrets = {"airflow-metadata", "airflow-fernet", "airflow-jwt", "airflow-api", "airflow-users", "airflow-database",
               "airflow-metadata-reader", "airflow-metadata-dag-code"}  # fmt: skip
    for size, pod in environment.workers().items():
        text = yaml.safe_dump(pod)
        assert not {name for name in secrets if name in text}, size
        assert [source["secretRef"]["name"] for source in base(pod)["envFrom"]] == [
            "airflow-git",
            "airflow-connections",
        ]
        names = [entry["name"] for entry in base(pod)["env"]]
        assert not [n for n in names if "SQL_ALCHEMY" in n or "FERNET" in n or "SECRET" in n], size


def test_a_worker_may_do_nothing_in_the_cluster(environment: Rendered) -> None:
    for pod in environment.workers().values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
        account = environment.one("ServiceAccount", pod["spec"]["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
    bound = {s["name"] for each in environment.all("RoleBinding").values() for s in each["subjects"]}
    assert "airflow-blue-worker" not in bound
    assert "airflow-blue-scheduler" in bound, "who starts pods has a role, so the check above looks at something"


def test_every_component_and_worker_reads_the_same_configuration(environment: Rendered) -> None:
    for pod in environment.workers().values():
        config = next(m for m in base(pod)["volumeMounts"] if m["mountPath"] == "/opt/airflow/airflow.cfg")
        volume = next(v for v in pod["spec"]["volumes"] if v["name"] == config["name"])
        assert volume["configMap"]["name"] == "airflow-blue-config"
        assert {"name": "AIRFLOW_ENV", "value": environment.environment} in base(pod)["env"]


def test_sizes_differ_in_what_their_files_say(prod: Rendered) -> None:
    workers = prod.workers()
    keep = "karpenter.sh/do-not-disrupt"
    assert workers["default"]["metadata"]["annotations"][keep] == "true"
    assert workers["spot"]["metadata"]["annotations"][keep] == "false"
    assert workers["spot"]["spec"]["tolerations"] == SIZES["spot"]["tolerations"]
    assert workers["spot"]["spec"]["terminationGracePeriodSeconds"] < 30, "the shortest notice that a cloud gives"
    assert "tolerations" not in workers["default"]["spec"]
    scratch = base(workers["scratch"])
    assert "/opt/airflow/scratch" in [m["mountPath"] for m in scratch["volumeMounts"]]
    assert len(scratch["volumeMounts"]) == len(base(workers["default"])["volumeMounts"]) + 1, "added, not replaced"
    assert {"name": "MALLOC_ARENA_MAX", "value": "2"} in base(workers["memory"])["env"]


def test_development_shares_volumes_with_workers_and_production_does_not(dev: Rendered, prod: Rendered) -> None:
    def claims(pod: dict[str, Any]) -> set[str]:
        named = [
            v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v
        ]
        return set(named)

    for pod in dev.workers().values():
        assert claims(pod) == {"airflow-object-store", "airflow-logs"}
        assert claims(pod) <= dev.all("PersistentVolumeClaim").keys()
    for pod in prod.workers().values():
        assert claims(pod) == set()


def test_without_git_a_worker_needs_no_git_secret(render: Render) -> None:
    local = {"global": {"dagBundle": {"kind": "local"}}}
    answer = render("airflow-blue", local, only="worker/configmap.yaml")
    pod = yaml.safe_load(answer.one("ConfigMap", "airflow-blue-pod-templates")["data"]["small.yaml"])
    assert [source["secretRef"]["name"] for source in base(pod)["envFrom"]] == ["airflow-connections"]


def test_the_charts_worker_account_is_refused(render: Render) -> None:
    answer = render("airflow-blue", {"airflow": {"workers": {"kubernetes": {"serviceAccount": {"create": True}}}}})
    assert answer.code != 0
    assert "airflow.workers.kubernetes.serviceAccount.create" in answer.error


@pytest.mark.parametrize("colour", ["blue", "green"])
def test_a_worker_belongs_to_the_colour_that_started_it(render: Render, colour: str) -> None:
    answer = render(f"airflow-{colour}", only="worker/configmap.yaml")
    pod = yaml.safe_load(answer.one("ConfigMap", f"airflow-{colour}-pod-templates")["data"]["default.yaml"])
    assert pod["metadata"]["labels"]["release"] == f"airflow-{colour}"
    assert pod["spec"]["serviceAccountName"] == f"airflow-{colour}-worker"
