"""Run a command of airflow-ops as a Job in the cluster, where it goes on if this machine fails."""

import json
import subprocess
import time
from typing import Any

from airflow_ops import programs
from airflow_ops.cluster import jobs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.pod_diagnosis import pod_evidence
from airflow_ops.console import err, fail
from airflow_ops.deployment.dag_push import push_head
from airflow_ops.paths import ROOT
from airflow_ops.waiting import wait_until

CRON_JOB = "airflow-operations"
"""Holds the Job's pod, account and image (charts/platform/templates/operations)."""
BRANCH = "operations"
"""Where a commit is pushed to in development, where the Git server is in the cluster; no DAG bundle follows it."""
READ_BY_THE_JOB = ("charts", "ci", "dags", "image", "k8s", "values")
START_SECONDS = 300
"""For a pod to start: a node pulls an image of 0.4 GB in a minute."""
PAUSE_SECONDS = 2
"""Before a log is followed again."""


def run(cluster: Cluster, *command: str) -> int:
    """Run a command as a Job, and print what it prints.

    Args:
        cluster: The environment.
        *command: Verb and arguments of airflow-ops.

    Returns:
        The exit code of the command.

    Raises:
        ProblemError: The environment has no such Jobs, HEAD is not what this checkout holds, or the Job cannot start.
    """
    template = jobs.cron_job(
        cluster,
        CRON_JOB,
        "Set platform.operations.enabled and its image in values/, then deploy; or leave --in-cluster.",
    )
    revision = commit()
    if cluster.environment.values["platform"]["gitOrigin"]["enabled"]:
        push_head(cluster, BRANCH)
    job = job_of(template, revision, command)
    name = job["metadata"]["name"]
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(job))
    err.print(f"Job {name} of {cluster.namespace} runs `airflow-ops {' '.join(command)}` of commit {revision[:12]}")
    try:
        return _follow(cluster, name)
    except KeyboardInterrupt:
        err.print(f"it goes on: kubectl --context {cluster.context} -n {cluster.namespace} logs -f job/{name}")
        raise


def commit() -> str:
    """The commit of this checkout, which is what the Job runs.

    Raises:
        ProblemError: A file that the Job reads is not committed, or this is no checkout.
    """
    changed = _git("status", "--porcelain", "--", *READ_BY_THE_JOB).splitlines()
    if changed:
        raise fail(
            f"{changed[0][3:]} has changes that are not committed, and a Job in the cluster runs a commit.",
            "Commit and push them, or leave --in-cluster.",
            2,
        )
    return _git("rev-parse", "HEAD").strip()


def _git(*words: str) -> str:
    answer = programs.run("git", words, cwd=ROOT)
    if answer.returncode != 0:
        raise fail(
            f"{ROOT} is not a checkout that Git can read: {programs.error_text(answer)}.",
            "Run from a clone of this repository, or leave --in-cluster.",
            2,
        )
    return answer.stdout


def job_of(template: dict[str, Any], revision: str, command: tuple[str, ...]) -> dict[str, Any]:
    """The Job that runs a command.

    Args:
        template: The CronJob.
        revision: The commit that it takes code, charts and values from.
        command: Verb and arguments of airflow-ops.
    """
    job = jobs.from_cron_job(template, jobs.START_SECONDS)
    job["metadata"]["name"] = job["metadata"]["name"].replace(CRON_JOB, f"{CRON_JOB}-{command[0]}")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    others = [variable for variable in container["env"] if variable["name"] != "REVISION"]
    container["env"] = [*others, {"name": "REVISION", "value": revision}]
    container["args"] = list(command)
    return job


def _follow(cluster: Cluster, name: str) -> int:
    """Print the logs of a Job's pods, one after the other, until the Job has ended; gives the last one's exit code.

    A log that ends before its pod, because an API server was replaced or a balancer has closed an idle connection, is
    followed again.
    """
    printed: set[str] = set()
    while True:
        pod = wait_until(lambda: _next_pod(cluster, name, printed) or _has_ended(cluster, name), START_SECONDS)
        if pod is True:
            return _exit_code(cluster, name)
        if pod:
            _print_log(cluster, pod, is_known=pod in printed)
            printed.add(pod)
        elif not printed:
            raise _not_started(cluster, name)
        else:
            err.print(f"note: no pod of Job {name} runs; Kubernetes starts the next one")


def _print_log(cluster: Cluster, pod: str, is_known: bool) -> None:
    words = ["--context", cluster.context, "--namespace", cluster.namespace, "logs", "--follow", pod]
    since: list[str] = []
    if is_known:
        time.sleep(PAUSE_SECONDS)
        since = [f"--since={PAUSE_SECONDS}s"]
    subprocess.run([programs.find("kubectl"), *words, *since], check=False)


def _pods(cluster: Cluster, name: str) -> list[Any]:
    selector = f"batch.kubernetes.io/job-name={name}"
    pods = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items
    return sorted(pods, key=lambda pod: pod.metadata.creation_timestamp)


def _next_pod(cluster: Cluster, name: str, printed: set[str]) -> str:
    """The pod whose log comes next: one that was not printed, or one that still runs; empty if none has started."""
    started = [pod for pod in _pods(cluster, name) if pod.status.phase not in ("Pending", "Unknown")]
    running = (pod.metadata.name for pod in started if pod.status.phase == "Running")
    return next((pod.metadata.name for pod in started if pod.metadata.name not in printed), next(running, ""))


def _has_ended(cluster: Cluster, name: str) -> bool:
    return bool(jobs.outcome_of(cluster, name))


def _exit_code(cluster: Cluster, name: str) -> int:
    """Of the last container that ran; 1 if it is gone."""
    # A pod that was refused by its node never had a container.
    states = [status.state for pod in _pods(cluster, name) for status in pod.status.container_statuses or []]
    codes = [state.terminated.exit_code for state in states if state.terminated]
    return int(codes[-1]) if codes else 1


def _not_started(cluster: Cluster, name: str) -> Exception:
    evidence = [line for pod in _pods(cluster, name) for line in pod_evidence(cluster, pod)]
    return fail(
        "\n".join([f"Job {name} has not started after {START_SECONDS} s:", *evidence]),
        f"Correct what the lines above name; the Job goes on then. Or delete it: kubectl -n {cluster.namespace} "
        f"delete job {name}.",
    )
