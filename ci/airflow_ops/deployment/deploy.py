"""`deploy`: install an environment from values/, in the order that a database migration needs."""

import time
from typing import Annotated

import typer

from airflow_ops.cluster import lease
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.console import out, styled
from airflow_ops.deployment import cluster_addresses, dag_push, helm, live_checks, maintenance, preflight, smoke
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import active_colour, releases
from airflow_ops.options import LONGEST_WAIT, EnvironmentName, TrialOverlays


def deploy(
    name: EnvironmentName,
    overlay: TrialOverlays = None,
    maintenance_window: Annotated[
        bool, typer.Option("--maintenance-window", help="Stop Airflow, then bring another version of it.")
    ] = False,
    wait_for_tasks: Annotated[
        int, typer.Option(min=0, max=LONGEST_WAIT, help="Seconds that a maintenance window waits for running tasks.")
    ] = 1800,
) -> None:
    """Deploy an environment to the cluster of kubectl's context: preflight, platform with migration, Airflow, smoke.

    Nothing is changed unless the preflight succeeds; only a namespace that is
    missing is made before, for the lock and for the pod that tries the image. A
    deploy that was cut off can be run again, and one that changes nothing
    restarts nothing. While another operation changes the environment, it is
    named and the exit code is 3. Another version of Airflow comes with
    `upgrade`. Where that says that both versions cannot work on one schema:
    `deploy --maintenance-window`.

    Example: airflow-ops deploy dev
    """
    environment = Environment.load(name, overlay)
    cluster = connect(environment)
    manifests = preflight.check_files(cluster)
    with lease.hold(cluster, "deploy"):
        live_checks.check_owner(cluster)
        live_checks.check_colour(cluster)
        schema = preflight.check_cluster(cluster, manifests)
        cluster_addresses.warn_of_open(cluster, manifests)
        is_beside = not live_checks.check_version(cluster, schema)
        if is_beside and not maintenance_window:
            raise live_checks.refuse_version(cluster, schema)
        if is_beside:
            maintenance.begin(cluster, wait_for_tasks)
        install(cluster)
        if maintenance_window:
            maintenance.end(cluster, active_colour(environment))
        smoke.check(cluster)
    forward = f"kubectl --context {cluster.context} -n {cluster.namespace} port-forward service/airflow 8080"
    out.print(f"page: {forward}", soft_wrap=True)


def install(cluster: Cluster) -> None:
    """Install the releases of an environment, the platform with its migration first, and push the DAGs between them.

    Raises:
        ProblemError: One cannot be installed.
    """
    for release in releases(cluster.environment):
        started = time.monotonic()
        is_platform = release.chart == "platform"
        seconds = helm.platform_seconds(cluster.environment) if is_platform else helm.INSTALL_SECONDS
        helm.install(cluster, release, seconds)
        out.print(styled("ok", "green"), f"{release.name} is ready ({time.monotonic() - started:.0f} s)")
        if is_platform and (commit := dag_push.push(cluster)):
            out.print(styled("ok", "green"), f"DAGs of commit {commit} are pushed")
