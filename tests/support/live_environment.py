"""The dev environment on a cluster, as its users reach it."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from airflow_client.client import (
    ApiClient,
    DAGApi,
    DagRunApi,
    PatchTaskInstanceBody,
    TaskInstanceApi,
    TaskInstanceState,
    XComApi,
)
from kubernetes import watch
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster import airflow_api, lease
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.deployment.dag_push import push_arguments
from airflow_ops.environments.values import merge
from airflow_ops.monitoring.prometheus import Operator
from airflow_ops.paths import ROOT
from airflow_ops.waiting import wait_until

T = TypeVar("T")
OPS = ROOT / ".venv/bin/airflow-ops"


def ops(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run airflow-ops as a user does."""
    return subprocess.run([OPS, *arguments], capture_output=True, text=True, check=False)


def target(cluster: Cluster) -> list[str]:
    """An environment and the overlays that it is deployed with, as arguments of a verb."""
    overlays = cluster.environment.overlays
    return [cluster.environment.name, *(word for overlay in overlays for word in ("--overlay", overlay))]


def with_values(cluster: Cluster, change: Mapping[str, Any]) -> Cluster:
    """The environment as if its values were others."""
    environment = replace(cluster.environment)
    vars(environment)["values"] = merge(cluster.environment.values, change)
    return replace(cluster, environment=environment)


def has_prometheus_operator(cluster: Cluster) -> bool:
    """Whether the cluster has a Prometheus operator."""
    try:
        Operator(cluster).prometheuses()
    except ProblemError:
        return False
    return True


def lease_holder(cluster: Cluster) -> str:
    """Who holds the Lease of the environment; empty if nobody does."""
    path = ("get", "lease", lease.NAME, "--ignore-not-found", "--output", "jsonpath={.spec.holderIdentity}")
    return cluster.kubectl(*path)


def wait_for(what: str, look: Callable[[], T], seconds: float = 300) -> T:
    """Wait until `look` gives something true, and give that."""
    found = wait_until(look, seconds, 0.5)
    assert found, f"{what} did not come true in {seconds:.0f} s"
    return found


@dataclass
class Airflow:
    """The environment's Airflow, through its REST API."""

    client: ApiClient
    cluster: Cluster

    def dag(self, dag_id: str) -> Any:
        """The DAG as JSON, which the client of one version of Airflow reads from every other; None if there is none."""
        answer = DAGApi(self.client).get_dag_without_preload_content(dag_id)
        return json.loads(answer.data) if answer.status == 200 else None

    def serves(self, dag_id: str, commit: str) -> bool:
        """Whether new runs of a DAG start from `commit`."""
        found = self.dag(dag_id)
        return bool(found and not found["is_stale"] and found["bundle_version"] == commit)

    def unpause(self, dag_id: str) -> None:
        assert airflow_api.unpause(self.client, dag_id)

    def trigger(self, dag_id: str) -> str:
        return airflow_api.trigger(self.client, dag_id)

    def state(self, dag_id: str, run_id: str) -> str:
        return DagRunApi(self.client).get_dag_run(dag_id, run_id).state.value

    def wait_for_end(self, dag_id: str, run_id: str) -> str:
        return wait_for(
            f"the end of {run_id}",
            lambda: s if (s := self.state(dag_id, run_id)) in ("success", "failed") else "",
            600,
        )

    def task_state(self, dag_id: str, run_id: str, task_id: str) -> str:
        state = TaskInstanceApi(self.client).get_task_instance(dag_id, run_id, task_id).state
        return state.value if state else ""

    def end_as_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task as failed, as a person does on the page; the scheduler then ends the run."""
        TaskInstanceApi(self.client).patch_task_instance(
            dag_id, run_id, task_id, PatchTaskInstanceBody(new_state=TaskInstanceState.FAILED)
        )

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        answer: Any = XComApi(self.client).get_xcom_entry(dag_id, task_id, run_id, "return_value", deserialize=True)
        return getattr(answer, "actual_instance", answer).value


@dataclass
class DagRepository:
    """A clone of this repository, whose commits go to the environment's origin."""

    folder: Path
    cluster: Cluster
    ref: str

    def _git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=e2e", "-c", "user.email=e2e@example.com"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def push_version(self, version: str, *, rewrite: bool = False) -> str:
        """Push the e2e DAG as `version`; `rewrite` takes the last commit away, as a force-push does."""
        text = (ROOT / "tests/e2e/dags/e2e_show_version.py").read_text().replace("@VERSION@", version)
        return self.push({"dags/platform/e2e_show_version.py": text}, rewrite=rewrite)

    def push(self, files: Mapping[str, str | None], *, rewrite: bool = False) -> str:
        """Push files by their path in the repository, None to take one away; gives the commit."""
        for path, text in files.items():
            target = self.folder / path
            if text is None:
                target.unlink(missing_ok=True)
            else:
                target.write_text(text)
        self._git("add", "--all")
        message = ", ".join(files)
        self._git("commit", "--quiet", "--allow-empty", "--message", message, *(["--amend"] if rewrite else []))
        self._git(*push_arguments(self.cluster, f"HEAD:refs/heads/{self.ref}"))
        return self._git("rev-parse", "HEAD")


@dataclass
class WorkerPods:
    """Every worker pod that the cluster reports while this runs, by name, in its latest state."""

    seen: dict[str, Any] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)

    def follow(self, cluster: Cluster) -> None:
        """Watch until `stopped`; the API server ends a watch now and then, and the next one begins."""
        while not self.stopped.is_set():
            with contextlib.suppress(ApiException):
                self._follow_once(cluster)

    def _follow_once(self, cluster: Cluster) -> None:
        listing, selector = cluster.core.list_namespaced_pod, "kubernetes_executor=True"
        events = watch.Watch().stream(listing, cluster.namespace, label_selector=selector, timeout_seconds=5)
        for event in events:
            if event["type"] != "DELETED":
                self.seen[event["object"].metadata.name] = event["object"]

    def of_task(self, task_id: str) -> list[Any]:
        return [pod for pod in self.seen.values() if pod.metadata.annotations.get("task_id") == task_id]
