"""An airflow dag of the e2e tests: a task that takes connections from wherever the configured order finds them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Connection, dag, task
from kubernetes.client import models as k8s

from shared.authoring.defaults import default_args

TOKEN = "/var/run/secrets/eks.amazonaws.com/serviceaccount"  # noqa: S105 where EKS puts it
VARIABLES: dict[str, str] = json.loads(r"""@VARIABLES@""")


def pod() -> k8s.V1Pod:
    """What Amazon's webhook adds to a pod whose service account has a role, and the configuration of the overlay."""
    # Of an audience that the overlay e2e allows, as the overlay aws allows Amazon's.
    token = k8s.V1ServiceAccountTokenProjection(audience="sts.e2e.example.com", expiration_seconds=3600, path="token")
    volume = k8s.V1Volume(
        name="aws-iam-token",
        projected=k8s.V1ProjectedVolumeSource(sources=[k8s.V1VolumeProjection(service_account_token=token)]),
    )
    base = k8s.V1Container(
        name="base",
        env=[k8s.V1EnvVar(name=name, value=value) for name, value in VARIABLES.items()],
        volume_mounts=[k8s.V1VolumeMount(name="aws-iam-token", mount_path=TOKEN, read_only=True)],
    )
    return k8s.V1Pod(spec=k8s.V1PodSpec(containers=[base], volumes=[volume]))


@task(executor_config={"pod_override": pod()})
def read(connections: list[str]) -> dict[str, Any]:
    """Logins by connection, None for one that is nowhere; environments of the pod's processes that hold a password."""
    logins: dict[str, str | None] = {}
    passwords = []
    for name in connections:
        try:
            found = Connection.get(name)
        except Exception as error:
            if "isn't defined" not in str(error) and "not found" not in str(error).lower():
                raise
            logins[name] = None
            continue
        logins[name] = found.login
        passwords += [found.password] if found.password else []
    environments, closed = {}, 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environments[path] = path.read_bytes()
        except PermissionError:
            closed += 1
    seen = [str(path) for path, text in environments.items() if any(p.encode() in text for p in passwords)]
    counts = {"passwords": len(passwords), "environments": len(environments), "closed": closed}
    return counts | {"logins": logins, "seen": seen}


@dag(
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(minutes=10),
    default_args=default_args("platform", "quick"),
    tags=["platform"],
)
def e2e_read_connection() -> None:
    read(["e2e_in_both", "e2e_in_airflow", "e2e_nowhere"])


e2e_read_connection()
