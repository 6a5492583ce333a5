"""Install a Helm release and show its pods meanwhile."""

import json
import subprocess
import tempfile
import time
from datetime import datetime
from typing import Any

from rich.live import Live
from rich.table import Table

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.cluster.pod_diagnosis import is_crash_looping, is_healthy, pod_evidence, pod_state
from airflow_ops.console import RefusalError, err, fail, styled, table
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.live_objects import ask_helm
from airflow_ops.manifests.objects import Release

PODS = {"platform": "app.kubernetes.io/instance={name}", "airflow": "release={name}"}
"""Label of a release's pods by chart: the official chart uses another one."""
DONE = ("deployed", "superseded")
"""States of a revision that was installed to its end."""
PENDING_SECONDS = 900
"""A release that is `pending` for longer was left by a Helm that was killed. Before that, somebody may run it by hand;
another command of ours cannot, because this one holds the environment's Lease."""


INSTALL_SECONDS = 900
"""For the pods of a release to become ready."""


def platform_seconds(environment: Environment) -> int:
    """How long the platform's release may take: its migration Job waits for the database, then migrates it."""
    migration = environment.values["platform"]["migration"]
    return int(migration["databaseTimeout"] + migration["deadline"] + 300)


def install(cluster: Cluster, release: Release, seconds: int, cut_off: datetime | None = None) -> None:
    """Run `helm upgrade --install` and wait until every pod is ready and every Job is done.

    It can be run again after a failure: it first clears what a killed Helm or a failed Job left behind.

    Args:
        cluster: The environment.
        release: The release.
        seconds: How long it may take.
        cut_off: When a command that was killed has begun this same step, if one has: Helm ended with it.

    Raises:
        ProblemError: It fails or takes too long; the unhealthy pods are shown.
    """
    _clear_pending(cluster, release, cut_off)
    _clear_failed_jobs(cluster, release)
    command = [programs.find("helm"), "upgrade", "--install", release.name, str(release.chart_folder)]
    command += ["--kube-context", cluster.context, "--namespace", cluster.namespace, *release.value_arguments()]
    # The only hook is the Job that runs this very command after a `helm upgrade` by hand.
    command += ["--wait", "--wait-for-jobs", "--no-hooks", "--timeout", f"{seconds}s", "--history-max", "5"]
    with tempfile.TemporaryFile("w+") as output:
        with programs.tied(command, output) as process:
            _watch(cluster, release, process)
        if process.returncode != 0:
            output.seek(0)
            raise _failure(cluster, release, output.read())


def was_installed(cluster: Cluster, release: Release) -> bool:
    """Whether Helm has ever installed a release to its end.

    Raises:
        ProblemError: The cluster cannot be reached.
    """
    text = ask_helm(cluster, release, "history", "--output", "json")
    return text is not None and any(each["status"] in DONE for each in json.loads(text))


def _pods(cluster: Cluster, release: Release) -> list[Any]:
    selector = PODS[release.chart].format(name=release.name)
    pods = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items
    return [pod for pod in pods if (pod.metadata.labels or {}).get("component") != "worker"]


def _watch(cluster: Cluster, release: Release, process: "subprocess.Popen[str]") -> None:
    """Show the pods until Helm ends: a table on a terminal, a line per change elsewhere."""
    shown: dict[str, str] = {}
    # A pod from before may be what this release corrects.
    before = {pod.metadata.uid for pod in _pods(cluster, release)}
    with Live(console=err, transient=True, refresh_per_second=4) as live:
        while process.poll() is None:
            pods = _pods(cluster, release)
            states = {pod.metadata.name: _state(pod) for pod in pods}
            if err.is_terminal:
                live.update(_table(release, states))
            else:
                for name in states.keys() - {n for n, s in shown.items() if s == states.get(n)}:
                    err.print(f"{release.name}: {name} {states[name]}")
            shown = states
            if _failed_jobs(cluster, release) or any(
                is_crash_looping(pod) for pod in pods if pod.metadata.uid not in before
            ):
                # Helm would wait for it until its timeout.
                programs.end(process)
            time.sleep(1)


def _state(pod: Any) -> str:
    return "ready" if is_healthy(pod) and pod.status.phase == "Running" else pod_state(pod)


def _table(release: Release, states: dict[str, str]) -> Table:
    rows = table(release.name, "")
    for name, state in sorted(states.items()):
        colour = "green" if state in ("ready", "Succeeded") else "yellow"
        rows.add_row(name, styled(state, colour))
    return rows


def _failure(cluster: Cluster, release: Release, said: str) -> Exception:
    lines = [line for line in said.splitlines() if not line.startswith(("walk.go:", "Release "))]
    lines += [f"Job {name} failed: {why}" for name, why in _failed_jobs(cluster, release).items()]
    unhealthy = [pod for pod in _pods(cluster, release) if not is_healthy(pod)]
    lines += [line for pod in unhealthy for line in pod_evidence(cluster, pod)]
    return fail(
        f"{release.name} could not be installed:\n" + "\n".join(lines),
        "Correct what the lines above name and run the same command again: it continues from here.",
    )


def _clear_pending(cluster: Cluster, release: Release, cut_off: datetime | None) -> None:
    where = ["--kube-context", cluster.context, "--namespace", cluster.namespace]
    what = ["list", "--pending", "--filter", f"^{release.name}$", "--output", "json"]
    answer = programs.run("helm", [*where, *what, "--time-format", "2006-01-02T15:04:05Z07:00"])
    for found in json.loads(answer.stdout or "[]"):
        updated = datetime.fromisoformat(found["updated"])
        age = time.time() - updated.timestamp()
        # Helm's time has no fraction.
        is_ours = cut_off is not None and updated >= cut_off.replace(microsecond=0)
        if age < PENDING_SECONDS and not is_ours:
            raise RefusalError(
                f"{release.name} has been {found['status']} for {age:.0f} s: "
                "somebody runs Helm by hand, or its machine has failed.",
                f"Wait for it. If nobody does, run this again in {PENDING_SECONDS - age:.0f} s.",
            )
        # This deletes only Helm's record of the attempt; the objects stay, and the next attempt takes them over.
        cluster.kubectl("delete", "secret", f"sh.helm.release.v1.{release.name}.v{found['revision']}")


def _clear_failed_jobs(cluster: Cluster, release: Release) -> None:
    """Delete the failed Jobs, because Helm would not run them again; it creates new ones. Jobs hold no data."""
    for name in _failed_jobs(cluster, release):
        cluster.kubectl("delete", "job", name, "--cascade=foreground")


def _failed_jobs(cluster: Cluster, release: Release) -> dict[str, str]:
    """The Jobs of a release that failed after all retries, and why."""
    selector = PODS[release.chart].format(name=release.name)
    jobs = cluster.batch.list_namespaced_job(cluster.namespace, label_selector=selector).items
    return {
        job.metadata.name: f"{condition.reason}: {condition.message}"
        for job in jobs
        for condition in job.status.conditions or []
        if condition.type == "Failed" and condition.status == "True"
    }
