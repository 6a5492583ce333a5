"""Pods that a command starts itself, outside of every release: they run a program in the environment's image."""

from typing import Any

from airflow_ops.environments.environment import Environment

SCRATCH = "/tmp"  # noqa: S108 an emptyDir of the pod


def labels(component: str) -> dict[str, str]:
    """Labels of such a pod, which charts/platform/files/network.yaml selects; not a release's, as Helm did not make it.

    Args:
        component: Its name in that file.
    """
    return {
        "app.kubernetes.io/name": "airflow-platform",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "airflow",
    }


def pod(
    environment: Environment,
    name: str,
    component: str,
    command: list[str],
    secrets: dict[str, dict[str, Any]],
    seconds: int | None = None,
) -> dict[str, Any]:
    """A pod without rights that runs one program once.

    Args:
        environment: The environment.
        name: Its name.
        component: See `labels`.
        command: The program with its arguments. Nothing secret.
        secrets: Environment variables with the secretKeyRef of each.
        seconds: How long it may run; no limit by default.
    """
    values = environment.values
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels(component)},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": values["airflow"].get("imagePullSecrets", []),
            "securityContext": values["airflow"]["securityContexts"]["pod"],
            "containers": [
                {
                    "name": component,
                    "image": environment.image,
                    "imagePullPolicy": values["global"]["image"]["pullPolicy"],
                    "command": command,
                    "securityContext": values["airflow"]["securityContexts"]["containers"],
                    "env": [
                        {"name": "AIRFLOW_HOME", "value": f"{SCRATCH}/airflow"},
                        {"name": "HOME", "value": SCRATCH},
                        *({"name": key, "valueFrom": {"secretKeyRef": where}} for key, where in secrets.items()),
                    ],
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "256Mi"},
                        "limits": {"cpu": "1", "memory": "1Gi"},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": SCRATCH}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
