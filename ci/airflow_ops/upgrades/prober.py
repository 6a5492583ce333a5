"""Ask the environment's Services all the time while an upgrade runs, from inside the cluster, and count what fails."""

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster import airflow_api, plain_pods
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours.live import USERS, execution_service
from airflow_ops.colours.record import Bucket, Probed, Record
from airflow_ops.console import err, fail, styled
from airflow_ops.waiting import wait_until

POD = "airflow-prober"
PROGRAM = Path(__file__).with_name("prober_program.py")
START_SECONDS = 120
LIMIT_SECONDS = 4 * 3600
"""After this time it ends by itself."""
FAILURES_KEPT = 20
BUCKET_SECONDS, BUCKETS_KEPT = 5, 4000
"""The timeline is kept in a ConfigMap, which holds 1 MiB: five hours of it take a third."""


@contextmanager
def probing(cluster: Cluster, record: Record) -> Iterator[None]:
    """Probe for the duration of a `with` block; the record then has the sums.

    A prober that a killed command left behind has gone on meanwhile, and its counts are taken over. The block also runs
    without a prober: that Airflow does not answer is a reason to go back, not one to stop.
    """
    try:
        start(cluster, record)
    except Exception as error:
        err.print(styled("note", "yellow"), f"requests are not counted: {getattr(error, 'message', error)}")
    try:
        yield
    finally:
        # An error here must not take the place of one of the block.
        with contextlib.suppress(Exception):
            log = _log(cluster)
            _delete(cluster)
            record.probed = add(record.probed, log)
            record.timeline = add_times(record.timeline, log)


def start(cluster: Cluster, record: Record) -> None:
    """Start the prober, unless it runs.

    Raises:
        ProblemError: It does not start, or does not reach Airflow.
    """
    if _is_running(cluster):
        return
    environment = cluster.environment
    user = airflow_api.first_admin(environment)
    urls = [f"http://{name}:8080" for name in (USERS, execution_service(record.source.colour))]
    password = {"name": environment.secret("users"), "key": user}
    command = ["python", "-u", "-c", PROGRAM.read_text(), *urls, user]
    _delete(cluster)
    pod = plain_pods.pod(environment, POD, "prober", command, {"PASSWORD": password}, LIMIT_SECONDS)
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    if not wait_until(lambda: _has_begun(cluster) or _has_ended(cluster), START_SECONDS) or _has_ended(cluster):
        said = (_log(cluster).strip().splitlines() or ["it printed nothing"])[-1]
        _delete(cluster)
        raise fail(
            f"the prober does not reach Airflow: {said}.",
            "Is the platform's release older than this checkout? Deploy it with its present version of Airflow first.",
            2,
        )


def _has_begun(cluster: Cluster) -> bool:
    return '"began"' in _log(cluster)


def _has_ended(cluster: Cluster) -> bool:
    return bool(cluster.core.read_namespaced_pod(POD, cluster.namespace).status.phase in ("Failed", "Succeeded"))


def _is_running(cluster: Cluster) -> bool:
    with contextlib.suppress(ApiException):
        return bool(cluster.core.read_namespaced_pod(POD, cluster.namespace).status.phase == "Running")
    return False


def counted_so_far(cluster: Cluster, record: Record) -> dict[str, Probed]:
    """What the record has, and what a prober that runs now has counted."""
    return add(record.probed, _log(cluster))


def _log(cluster: Cluster) -> str:
    try:
        return cluster.log(POD)
    except ApiException:
        return ""


def _delete(cluster: Cluster) -> None:
    cluster.kubectl("delete", "pod", POD, "--ignore-not-found", "--grace-period=0", "--wait=true")


def add_times(before: list[Bucket], log: str) -> list[Bucket]:
    """Add what a prober printed to what was counted before, by time."""
    buckets = {bucket.at: bucket.model_copy() for bucket in before}
    for said in _lines(log):
        if "error" not in said:
            at = int(said["at"] // BUCKET_SECONDS * BUCKET_SECONDS)
            bucket = buckets.setdefault(at, Bucket(at=at))
            bucket.requests += said["requests"]
            bucket.failed += said["failed"]
            bucket.worst_ms = max(bucket.worst_ms, said["worst_ms"])
    return [buckets[at] for at in sorted(buckets)][-BUCKETS_KEPT:]


def difference(after: dict[str, Probed], before: dict[str, Probed]) -> dict[str, Probed]:
    """What was counted between two looks, by kind of request; the longest time to an answer is that of both."""
    return {
        name: Probed(
            requests=found.requests - earlier.requests,
            failed=found.failed - earlier.failed,
            worst_ms=found.worst_ms,
            failures=found.failures[len(earlier.failures) :],
        )
        for name, found in after.items()
        for earlier in [before.get(name, Probed())]
    }


def _lines(log: str) -> Iterator[dict[str, Any]]:
    """The lines of a prober's log about requests."""
    for line in log.splitlines():
        if not line.startswith('{"at"'):
            continue
        try:
            said = json.loads(line)
        except ValueError:  # The log ends in the middle of a line.
            continue
        if said["probe"]:
            yield said


def add(before: dict[str, Probed], log: str) -> dict[str, Probed]:
    """Add what a prober printed to what was counted before, by kind of request."""
    counted = {name: probed.model_copy(deep=True) for name, probed in before.items()}
    for said in _lines(log):
        probed = counted.setdefault(said["probe"], Probed())
        if "error" in said:
            probed.failures = [*probed.failures, f"{said['at']:.1f} {said['error']}"][:FAILURES_KEPT]
        else:
            probed.requests += said["requests"]
            probed.failed += said["failed"]
            probed.worst_ms = max(probed.worst_ms, said["worst_ms"])
    return counted
