"""Run a Job of an environment to its end, and read its result from its log."""

import json
from datetime import UTC, datetime
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_ops.cluster.connection import NOT_FOUND, Cluster, existing
from airflow_ops.cluster.pod_diagnosis import is_healthy, pod_evidence
from airflow_ops.console import err, fail
from airflow_ops.waiting import wait_until

RESULT, PROBLEM = "result: ", "problem: "
"""Prefixes of a script's last line: its result as JSON, or why it failed."""
START_SECONDS = 60
"""Added to a Job's own deadline: time to start its pod."""


def cron_job(cluster: Cluster, name: str, fix: str) -> dict[str, Any]:
    """A CronJob of the environment, with the image, account and credentials that were deployed.

    Args:
        cluster: The environment.
        name: Name of the CronJob.
        fix: What to do where it does not exist.

    Raises:
        ProblemError: It does not exist.
    """
    text = cluster.kubectl("get", "cronjob", name, "--ignore-not-found", "--output", "json")
    if not text:
        raise fail(f"namespace {cluster.namespace} has no CronJob {name}.", fix)
    found: dict[str, Any] = json.loads(text)
    return found


def job(name: str, template: dict[str, Any], containers: list[dict[str, Any]], seconds: int) -> dict[str, Any]:
    """Build a Job from a CronJob's template, with other containers.

    Args:
        name: First part of its name; the time is appended.
        template: The CronJob's jobTemplate.
        containers: Run one after the other; the last one's result is the Job's.
        seconds: How long it may take.
    """
    spec = template["spec"]
    pod = {**spec["template"]["spec"], "initContainers": containers[:-1], "containers": containers[-1:]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _stamped(name), "labels": template["metadata"]["labels"]},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            # The Job is kept for a day, so that its log can be read.
            "ttlSecondsAfterFinished": 86400,
            "template": {"metadata": spec["template"]["metadata"], "spec": pod},
        },
    }


def from_cron_job(found: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Build the Job that a CronJob would make now.

    Args:
        found: The CronJob.
        seconds: How long it may take, where the CronJob does not say.
    """
    name, template = found["metadata"]["name"], found["spec"]["jobTemplate"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**template.get("metadata", {}), "name": _stamped(name)},
        "spec": {"activeDeadlineSeconds": seconds, **template["spec"]},
    }


def _stamped(name: str) -> str:
    """A name with the time appended: Jobs are immutable, so each run needs a new Job."""
    return f"{name}-{datetime.now(UTC):%Y%m%d%H%M%S}"


def run(cluster: Cluster, wanted: dict[str, Any], what: str) -> list[str]:
    """Create a Job and wait for its end.

    Args:
        cluster: The environment.
        wanted: The Job, with `activeDeadlineSeconds`.
        what: What it does, for messages.

    Returns:
        The lines that its last container printed.

    Raises:
        ProblemError: It fails or takes too long; the message has the reason that it printed, or the state of its pods.
    """
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(wanted))
    return _wait(cluster, wanted, what)


def _wait(cluster: Cluster, wanted: dict[str, Any], what: str) -> list[str]:
    """Wait for the end of a Job; gives the lines that its last container printed."""
    name = wanted["metadata"]["name"]
    seconds = wanted["spec"]["activeDeadlineSeconds"] + START_SECONDS
    with err.status(f"{what} (Job {name})"):
        outcome = wait_until(lambda: outcome_of(cluster, name), seconds, 0.5)
    pods = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=f"batch.kubernetes.io/job-name={name}")
    if outcome != "Complete":
        raise _failure(cluster, name, what, pods.items)
    done = next(pod for pod in pods.items if pod.status.phase == "Succeeded")
    return cluster.log(done.metadata.name, container=done.spec.containers[0].name).splitlines()


def run_for_result(cluster: Cluster, wanted: dict[str, Any], what: str) -> Any:
    """Do the same as `run` for a Job whose last container ends with a line that begins with `RESULT`.

    Returns:
        The rest of that line, read as JSON.

    Raises:
        ProblemError: See `run`.
    """
    return _result(run(cluster, wanted, what))


def _result(lines: list[str]) -> Any:
    """What a script printed as its result."""
    return json.loads(next(line for line in reversed(lines) if line.startswith(RESULT)).removeprefix(RESULT))


def resume_for_result(cluster: Cluster, wanted: dict[str, Any], what: str) -> Any:
    """Do the same as `run_for_result` for a Job whose name tells what it is for.

    One that an earlier command started is waited for, or its result is read; one that failed is run again.

    Raises:
        ProblemError: See `run`.
    """
    _create_unless_there(cluster, wanted)
    return _result(_wait(cluster, wanted, what))


def complete(cluster: Cluster, wanted: dict[str, Any], what: str) -> None:
    """See that a Job whose name tells what it does is done: run it unless it is done already, again if it failed.

    Raises:
        ProblemError: See `run`.
    """
    _create_unless_there(cluster, wanted)
    if outcome_of(cluster, wanted["metadata"]["name"]) != "Complete":
        _wait(cluster, wanted, what)


def _create_unless_there(cluster: Cluster, wanted: dict[str, Any]) -> None:
    name = wanted["metadata"]["name"]
    found = existing(cluster.batch.read_namespaced_job, name, cluster.namespace)
    if found is not None and outcome_of(cluster, name) == "Failed":
        delete(cluster, name)
        found = None
    if found is None:
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(wanted))


def delete(cluster: Cluster, name: str) -> None:
    """Delete a Job, if it exists, and wait until its pods are gone.

    Raises:
        ProblemError: They do not end.
    """
    cluster.kubectl("delete", "job", name, "--cascade=foreground", "--ignore-not-found", "--wait")


def end(cluster: Cluster, name: str) -> None:
    """Delete a Job that has not ended, and wait until its pods are gone; one that has ended keeps its log.

    Raises:
        ProblemError: They do not end.
    """
    if existing(cluster.batch.read_namespaced_job, name, cluster.namespace) and not outcome_of(cluster, name):
        delete(cluster, name)


def outcome_of(cluster: Cluster, name: str) -> str:
    """Complete or Failed; empty while it runs, or while Kubernetes' API does not answer."""
    try:
        conditions = cluster.batch.read_namespaced_job(name, cluster.namespace).status.conditions or []
    except (ApiException, HTTPError) as error:
        if getattr(error, "status", 0) == NOT_FOUND:
            raise
        return ""
    true = {condition.type for condition in conditions if condition.status == "True"}
    return next((outcome for outcome in ("Complete", "Failed") if outcome in true), "")


def _failure(cluster: Cluster, name: str, what: str, pods: list[Any]) -> Exception:
    evidence = [line for pod in pods if not is_healthy(pod) for line in pod_evidence(cluster, pod)]
    said = [line.split(PROBLEM, 1)[1] for line in evidence if PROBLEM in line]
    return fail(
        f"{what} failed: {'; '.join(dict.fromkeys(said)) or chr(10).join(evidence) or 'its pod is gone'}",
        f"Job {name} of {cluster.namespace} has the whole log.",
    )
