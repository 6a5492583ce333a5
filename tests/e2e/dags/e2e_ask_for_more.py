"""An airflow dag of the e2e tests: one task is as it should be, the others ask for what they must not get."""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

from shared.authoring.defaults import default_args


def override(spec: dict[str, Any], **base: Any) -> dict[str, k8s.V1Pod]:
    container = k8s.V1Container(name="base", **base)
    return {"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container], **spec))}


METADATA = k8s.V1EnvVarSource(secret_key_ref=k8s.V1SecretKeySelector(name="airflow-metadata", key="connection"))
ASKED: dict[str, dict[str, k8s.V1Pod]] = {
    "privileged": override({}, security_context=k8s.V1SecurityContext(privileged=True)),
    "foreign_image": override({}, image="docker.io/evil/miner:1"),
    "host_path": override(
        {"volumes": [k8s.V1Volume(name="node", host_path=k8s.V1HostPathVolumeSource(path="/etc"))]},
        volume_mounts=[k8s.V1VolumeMount(name="node", mount_path="/node")],
    ),
    "service_account": override({"service_account_name": "airflow-blue-scheduler"}),
    "metadata_secret": override({}, env=[k8s.V1EnvVar(name="URL", value_from=METADATA)]),
}


@task
def good() -> str:
    return "ran"


@task(retries=0)
def ask() -> str:
    return "got away with it"


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=15),
    default_args=default_args("platform", "quick"),
    tags=["platform"],
)
def e2e_ask_for_more() -> None:
    good()
    for name, wanted in ASKED.items():
        ask.override(task_id=f"ask_{name}", executor_config=wanted)()


e2e_ask_for_more()
