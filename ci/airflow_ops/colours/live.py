"""The two colours of an environment on its cluster: what runs of each, and which one the Services lead to."""

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import httpx
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from airflow_ops.cluster import rollouts
from airflow_ops.cluster.connection import NOT_FOUND, Cluster, existing
from airflow_ops.cluster.pod_diagnosis import is_crash_looping, is_healthy, pod_evidence
from airflow_ops.console import err, fail
from airflow_ops.manifests.objects import Colour, Manifest
from airflow_ops.waiting import wait_until

API_SERVER = "api-server"
START_GATE = "start"
"""Suffix of the ConfigMap with the program that lets a component wait for the other colour's."""
JOB_TYPES = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
"""What Airflow's table of jobs calls each component that is in it."""
SINGLE = tuple(JOB_TYPES)
"""Components that must work in one colour only; each waits at its start for the end of the other colour's."""
USERS = "airflow"
"""Service that users and the REST API reach."""
READY_SECONDS = 600
"""For a component's pods to start: a new node (5 min), its image pull (3 min) and the start itself."""
STOP_SECONDS = 120
"""A scheduler has 60 s to stop, and its node some time to say so."""
ENDPOINT_SECONDS = 60
WARM_REQUESTS = 4
"""Requests to each API server before it gets traffic; each may reach another of its processes."""
IMPORTED = (" waits until ", " starts: ")
"""In the log of a component that has imported everything (charts/airflow/files/scripts/start_component.py)."""


def other(colour: Colour) -> Colour:
    """The other colour."""
    return Colour.GREEN if colour is Colour.BLUE else Colour.BLUE


def execution_service(colour: Colour) -> str:
    """The Service that a colour's tasks reach."""
    return f"airflow-exec-{colour}"


def live_colour(cluster: Cluster) -> Colour | None:
    """The colour that users reach on the cluster; None where the environment is not deployed."""
    service = existing(cluster.core.read_namespaced_service, USERS, cluster.namespace)
    if service is None:
        return None
    release = (service.spec.selector or {}).get("release", "")
    return next((colour for colour in Colour if release == f"airflow-{colour}"), None)


def installed_version(cluster: Cluster, colour: Colour) -> str | None:
    """The version of Airflow that a colour was installed for; None if it is not installed."""
    name = f"airflow-{colour}-pod-templates"
    templates = existing(cluster.core.read_namespaced_config_map, name, cluster.namespace)
    version: str | None = templates and templates.metadata.labels.get("app.kubernetes.io/version")
    return version


def has_gate(cluster: Cluster, colour: Colour) -> bool:
    """Whether the components of a colour wait at their start for the other colour's."""
    name = f"airflow-{colour}-{START_GATE}"
    return existing(cluster.core.read_namespaced_config_map, name, cluster.namespace) is not None


def deployment_name(colour: Colour, component: str) -> str:
    """Name of a component's Deployment."""
    return f"airflow-{colour}-{component}"


def deployments(cluster: Cluster, colour: Colour) -> dict[str, Any]:
    """The Deployments of a colour by component."""
    found = cluster.apps.list_namespaced_deployment(cluster.namespace, label_selector=f"release=airflow-{colour}")
    return {(each.metadata.labels or {}).get("component", each.metadata.name): each for each in found.items}


def rendered_replicas(manifests: Iterable[Manifest]) -> dict[str, int]:
    """Replicas of a colour's Deployments by its manifests; where an autoscaler sets them, its least number."""
    objects = [manifest.object for manifest in manifests]
    least = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["minReplicas"]
        for each in objects
        if each["kind"] == "HorizontalPodAutoscaler"
    }
    return {
        each["metadata"]["labels"]["component"]: each["spec"].get("replicas", least.get(each["metadata"]["name"], 1))
        for each in objects
        if each["kind"] == "Deployment" and "component" in each["metadata"]["labels"]
    }


def digest(manifests: Iterable[Manifest]) -> str:
    """A digest of manifests, whatever their order."""
    texts = sorted(json.dumps(manifest.object, sort_keys=True) for manifest in manifests)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def pods(cluster: Cluster, colour: Colour, component: str) -> list[Any]:
    """The pods of a component that have not ended, also those that are about to end."""
    selector = f"tier=airflow,component={component},release=airflow-{colour}"
    found = cluster.core.list_namespaced_pod(cluster.namespace, label_selector=selector).items
    # An evicted pod stays as Failed until somebody deletes it.
    return [pod for pod in found if pod.status.phase in ("Pending", "Running", "Unknown")]


def scale(cluster: Cluster, colour: Colour, replicas: dict[str, int]) -> None:
    """Set the replicas of components; a Deployment that does not exist is left out if it should have none."""
    for component, count in replicas.items():
        name = deployment_name(colour, component)
        try:
            cluster.apps.patch_namespaced_deployment(name, cluster.namespace, {"spec": {"replicas": count}})
        except ApiException as error:
            if error.status != NOT_FOUND or count:
                raise


def remove_idle(cluster: Cluster, colour: Colour) -> None:
    """Delete the Deployments of a colour that run nothing, so that Helm makes them anew.

    Helm changes the fields that a chart sets. What somebody has added by hand, a command for example, would stay.
    """
    for each in deployments(cluster, colour).values():
        if each.spec.replicas == 0:
            existing(cluster.apps.delete_namespaced_deployment, each.metadata.name, cluster.namespace)


def autoscale(cluster: Cluster, colour: Colour, least: int | None) -> None:
    """Set how many API servers of a colour an autoscaler keeps at least; None where there is no autoscaler."""
    if least is not None:
        change = {"spec": {"minReplicas": least}}
        client.AutoscalingV2Api(cluster.core.api_client).patch_namespaced_horizontal_pod_autoscaler(
            deployment_name(colour, API_SERVER), cluster.namespace, change
        )


def autoscaled(cluster: Cluster, colour: Colour) -> int | None:
    """How many API servers of a colour an autoscaler keeps at least; None where there is no autoscaler."""
    api = client.AutoscalingV2Api(cluster.core.api_client)
    found = api.list_namespaced_horizontal_pod_autoscaler(cluster.namespace).items
    target = deployment_name(colour, API_SERVER)
    return next((int(each.spec.min_replicas) for each in found if each.spec.scale_target_ref.name == target), None)


def suspend(cluster: Cluster, colour: Colour, suspended: bool) -> None:
    """Suspend a colour's CronJobs, or let them run: those of the official chart clean up for both colours."""
    selector = f"release=airflow-{colour}"
    for each in cluster.batch.list_namespaced_cron_job(cluster.namespace, label_selector=selector).items:
        change = {"spec": {"suspend": suspended}}
        cluster.batch.patch_namespaced_cron_job(each.metadata.name, cluster.namespace, change)


def wait_until_ready(cluster: Cluster, colour: Colour, component: str) -> None:
    """Wait until a Deployment has as many ready pods as it should have.

    Raises:
        ProblemError: They do not become ready; their events and last log lines are in the message.
    """
    name = deployment_name(colour, component)

    def is_ready() -> bool:
        found = cluster.apps.read_namespaced_deployment(name, cluster.namespace)
        return rollouts.is_replaced(found)

    with err.status(f"starting {name}"):
        wait_until(lambda: is_ready() or _is_crash_looping(cluster, colour, component), READY_SECONDS)
    if not is_ready():
        raise _unready(cluster, colour, component, f"is not ready after {READY_SECONDS} s or several restarts")


def _is_crash_looping(cluster: Cluster, colour: Colour, component: str) -> bool:
    return any(is_crash_looping(pod) for pod in pods(cluster, colour, component))


def _unready(cluster: Cluster, colour: Colour, component: str, what: str) -> Exception:
    evidence = [
        line for pod in pods(cluster, colour, component) if not is_healthy(pod) for line in pod_evidence(cluster, pod)
    ]
    return fail(
        "\n".join([f"{deployment_name(colour, component)} {what}:", *evidence]),
        "Correct what the lines above name.",
    )


def wait_until_gone(cluster: Cluster, colour: Colour, components: Iterable[str]) -> None:
    """Wait until no pod of some components is left.

    Raises:
        ProblemError: One does not end.
    """
    names = list(components)

    def left() -> list[str]:
        return [pod.metadata.name for component in names for pod in pods(cluster, colour, component)]

    with err.status(f"stopping {', '.join(names)} of {colour}"):
        gone = wait_until(lambda: not left(), STOP_SECONDS, 0.5)
    if not gone:
        raise fail(f"{', '.join(left())} did not end in {STOP_SECONDS} s.", "Find out why with `kubectl describe`.")


def wait_until_started(cluster: Cluster, colour: Colour, component: str, count: int, works: Callable[[], bool]) -> None:
    """Wait until the pods of a component have imported everything, and wait for the other colour's end or work already.

    Args:
        cluster: The environment.
        colour: The colour.
        component: One of `SINGLE`.
        count: How many pods.
        works: Whether so many of them work already, which an old log does not say any more.

    Raises:
        ProblemError: They do not get there.
    """

    def has_imported(pod: Any) -> bool:
        if pod.status.phase != "Running":
            return False
        try:
            log = cluster.log(pod.metadata.name, container=component, tail_lines=200)
        except ApiException:  # Its container is about to start.
            return False
        return any(words in log for words in IMPORTED)

    def imported() -> int:
        return sum(has_imported(pod) for pod in pods(cluster, colour, component))

    def is_there() -> bool:
        return works() or imported() >= count

    with err.status(f"starting {component} of {colour}"):
        wait_until(lambda: is_there() or _is_crash_looping(cluster, colour, component), READY_SECONDS)
    if not is_there():
        raise _unready(
            cluster, colour, component, f"has not imported Airflow after {READY_SECONDS} s or several restarts"
        )


def warm_api_servers(cluster: Cluster, colour: Colour, version: str) -> None:
    """Check each API server of a colour, and send the requests that block a fresh one for seconds.

    Raises:
        ProblemError: One has another version, does not reach the database, or does not answer.
    """
    for name in ready_api_servers(cluster, colour):
        with cluster.forward(f"pod/{name}", 8080) as url:
            try:
                _warm(name, url, version)
            except httpx.HTTPError as error:
                raise fail(f"{name} does not answer: {error!r}.", "Look at its log.") from error


def _warm(name: str, url: str, version: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as session:
        found = session.get("/api/v2/version").raise_for_status().json()["version"]
        if found != version:
            raise fail(
                f"{name} is Airflow {found}, but global.airflowVersion is {version}.",
                "Give global.image.tag and global.airflowVersion of the same Airflow in values/.",
            )
        # The status alone says nothing: the answer is 200 without a database too.
        health = session.get("/api/v2/monitor/health").raise_for_status().json()
        if health["metadatabase"]["status"] != "healthy":
            raise fail(f"{name} does not reach the metadata database.", "Look at its log.")
    for _ in range(WARM_REQUESTS):
        httpx.get(f"{url}/execution/health", timeout=60).raise_for_status()


def point(cluster: Cluster, services: Iterable[str], colour: Colour) -> None:
    """Let Services lead to a colour's API servers, and wait until they lead nowhere else.

    Raises:
        ProblemError: Their endpoints do not follow.
    """
    names = list(services)
    for name in names:
        change = {"spec": {"selector": {"release": f"airflow-{colour}"}}}
        cluster.core.patch_namespaced_service(name, cluster.namespace, change)
    for name in names:
        if not wait_until(partial(leads_to, cluster, name, colour), ENDPOINT_SECONDS, 0.2):
            raise fail(
                f"Service {name} has no ready endpoint of {colour} after {ENDPOINT_SECONDS} s.",
                f"Look at the pods of {deployment_name(colour, API_SERVER)}.",
            )


def leads_to(cluster: Cluster, service: str, colour: Colour) -> bool:
    """Whether a Service has ready endpoints, all of one colour. Endpoints that are not ready get no traffic."""
    slices = client.DiscoveryV1Api(cluster.core.api_client).list_namespaced_endpoint_slice(
        cluster.namespace, label_selector=f"kubernetes.io/service-name={service}"
    )
    ready = [
        endpoint.target_ref.name
        for each in slices.items
        for endpoint in each.endpoints or []
        if endpoint.conditions.ready and endpoint.target_ref
    ]
    return bool(ready) and all(name.startswith(deployment_name(colour, API_SERVER)) for name in ready)


def ready_api_servers(cluster: Cluster, colour: Colour) -> list[str]:
    """Names of the API servers of a colour that are ready and not about to end."""
    found = pods(cluster, colour, API_SERVER)
    return [pod.metadata.name for pod in found if is_healthy(pod) and not pod.metadata.deletion_timestamp]


def ready_api_server(cluster: Cluster) -> str:
    """Name of a pod of an API server that is ready, of the colour that users reach if there is one.

    Raises:
        ProblemError: No API server is ready.
    """
    # The other colour may be about to end.
    for colour in sorted(Colour, key=lambda colour: colour is not live_colour(cluster)):
        for name in ready_api_servers(cluster, colour):
            return name
    raise fail(f"no API server of {cluster.namespace} is ready.", "Look at its pods.")


def worker_pods(cluster: Cluster, colour: Colour) -> list[Any]:
    """The worker pods that a colour started and that have not ended."""
    return pods(cluster, colour, "worker")
