"""Run a Job of an environment to its end, and take what it found from its log."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.pod_diagnosis import is_well, pod_evidence
from airflow_ops.console import err, fail
from airflow_ops.manifests.objects import Object

RESULT, PROBLEM = "result: ", "problem: "
"""What a script's last line begins with: what it found as JSON, or why it gave up."""


def job(name: str, template: Object, containers: list[Object], seconds: int) -> Object:
    """A Job made from a CronJob's, with other containers.

    Args:
        name: What its name begins with; the time is appended.
        template: The CronJob's jobTemplate.
        containers: Run one after the other; the last one's result is the Job's.
        seconds: How long it may take.
    """
    spec = template["spec"]
    pod = {**spec["template"]["spec"], "initContainers": containers[:-1], "containers": containers[-1:]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{name}-{datetime.now(UTC):%Y%m%d%H%M%S}", "labels": template["metadata"]["labels"]},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            # A day to read its log.
            "ttlSecondsAfterFinished": 86400,
            "template": {"metadata": spec["template"]["metadata"], "spec": pod},
        },
    }


def run(cluster: Cluster, wanted: Object, what: str) -> Any:
    """Create a Job, wait for its end, and give what it found.

    Args:
        cluster: The environment.
        wanted: The Job.
        what: What it does, for the screen.

    Returns:
        What its last container printed behind `RESULT`.

    Raises:
        ProblemError: It fails or takes too long; its own words, or its pods' evidence, are in the message.
    """
    name = wanted["metadata"]["name"]
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(wanted))
    # Its own deadline ends it; the rest is for a pod that cannot start.
    end = time.monotonic() + wanted["spec"]["activeDeadlineSeconds"] + 60
    with err.status(f"{what} (Job {name})"):
        while (outcome := _outcome(cluster, name)) is None and time.monotonic() < end:
            time.sleep(0.5)
    pods = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=f"batch.kubernetes.io/job-name={name}")
    if outcome is not True:
        raise _failure(cluster, name, what, pods.items)
    done = next(pod for pod in pods.items if pod.status.phase == "Succeeded")
    lines = cluster.log(done.metadata.name, container=done.spec.containers[0].name).splitlines()
    return json.loads(next(line for line in reversed(lines) if line.startswith(RESULT)).removeprefix(RESULT))


def _outcome(cluster: Cluster, name: str) -> bool | None:
    """Whether a Job succeeded; None while it runs."""
    conditions = cluster.batch.read_namespaced_job_status(name, cluster.namespace).status.conditions or []
    true = {condition.type for condition in conditions if condition.status == "True"}
    return True if "Complete" in true else False if "Failed" in true else None


def _failure(cluster: Cluster, name: str, what: str, pods: list[Any]) -> Exception:
    evidence = [line for pod in pods if not is_well(pod) for line in pod_evidence(cluster, pod)]
    said = [line.split(PROBLEM, 1)[1] for line in evidence if PROBLEM in line]
    return fail(
        f"{what} failed: {'; '.join(dict.fromkeys(said)) or chr(10).join(evidence) or 'its pod is gone'}",
        f"Job {name} of {cluster.namespace} has the whole log.",
    )
