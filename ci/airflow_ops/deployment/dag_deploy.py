"""`deploy-dags`: publish DAGs of a commit, see them work, and take them back if they do not."""

import contextlib
import json
import time
from collections.abc import Collection
from typing import Annotated, Any

import typer
from airflow_client.client import ApiClient, DAGApi

from airflow_ops.cluster import airflow_api, lease
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.commits import checkout, commit_of
from airflow_ops.console import counted, err, fail, out, styled
from airflow_ops.dags.inspection import inspect_bundle
from airflow_ops.deployment import dag_push, smoke
from airflow_ops.environments.environment import Environment
from airflow_ops.environments.pools import load_pools
from airflow_ops.options import EnvironmentName, TrialOverlays
from airflow_ops.waiting import wait_until

SERVED_SECONDS = 300
"""For a commit to come through the mirror (15 s), the refresh of the bundle (60 s) and one parse of every file."""


def deploy_dags(
    name: EnvironmentName,
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="Branch, tag or commit of this checkout.")] = "HEAD",
    overlay: TrialOverlays = None,
) -> None:
    """Publish the DAGs of a commit to an environment that follows a branch, without a restart.

    They are checked first, as by `dags lint`. Then the branch moves, and this
    waits until Airflow has parsed every DAG of the commit, until there is no
    import error that was not there before, and until the canary has run from it.
    Otherwise the branch moves back. Runs keep the commit that they began with.

    Example: airflow-ops deploy-dags dev
    """
    cluster = connect(Environment.load(name, overlay))
    commit, expected = _checked(cluster.environment, ref)
    with lease.hold(cluster, "deploy-dags"):
        former = dag_push.published(cluster)
        dag_push.fetch(cluster, former)
        errors = airflow_api.import_errors_of(cluster)
        started = time.monotonic()
        if former == commit:
            # An earlier command may have ended between its push and its checks.
            out.print(f"the DAGs of {name} are those of {commit[:12]} already")
            _verify(cluster, commit, expected, errors)
        else:
            _publish(cluster, commit, former, expected, errors)
    out.print(
        styled("ok", "green"),
        f"{counted(len(expected), 'DAG')} of {commit[:12]} are verified after {time.monotonic() - started:.0f} s",
    )


def _publish(cluster: Cluster, commit: str, former: str, expected: Collection[str], errors: Collection[str]) -> None:
    """Publish a commit, and take it back unless it is verified, whatever the reason.

    Raises:
        ProblemError: It is not verified.
    """
    try:
        dag_push.publish(cluster, commit, former)
        out.print(f"published {commit[:12]}; before it was {former[:12]}")
        _verify(cluster, commit, expected, errors)
    except BaseException as error:
        # Also SIGTERM and Ctrl-C: nobody has seen these DAGs work.
        if dag_push.published(cluster) == commit:
            _take_back(cluster, commit, former, error)
        raise


def _checked(environment: Environment, ref: str) -> tuple[str, list[str]]:
    """Check the DAGs of a ref; gives its commit and the ids of its DAGs.

    Raises:
        ProblemError: There is no such ref, or a DAG breaks a rule.
    """
    commit = commit_of(ref)
    with checkout(commit) as root:
        pools = load_pools(root / "dags/config/pools.yaml")
        found = inspect_bundle(root / "dags", pools, environment=environment.name)
    if found.violations:
        lines = "\n".join(f"dags/{violation}" for violation in found.violations)
        raise fail(f"{counted(len(found.violations), 'violation')} at {ref}:\n{lines}", "Correct them.", 2)
    return commit, sorted(dag.dag_id for dag in found.dags)


def _verify(cluster: Cluster, commit: str, expected: Collection[str], errors: Collection[str]) -> None:
    """Wait until Airflow has the DAGs of a commit and they work.

    Args:
        cluster: The environment.
        commit: The commit.
        expected: Ids of its DAGs.
        errors: The files that could not be imported before.

    Raises:
        ProblemError: A DAG does not come, a file cannot be imported, or the canary fails.
    """
    with airflow_api.login(cluster) as client, err.status("waiting for the DAG processor"):

        def new_errors() -> list[str]:
            return sorted(set(airflow_api.files_with_errors(client)) - set(errors))

        wait_until(lambda: new_errors() or not behind(client, commit, expected), SERVED_SECONDS, 1)
        broken, late = new_errors(), behind(client, commit, expected)
    if broken:
        raise fail(f"{', '.join(broken[:5])} cannot be imported there.", "Look at the import errors on the page.")
    if late:
        raise fail(
            f"{', '.join(late[:5])} did not come from {commit[:12]} in {SERVED_SECONDS} s.",
            "Look at the logs of the DAG processor and of the Git mirror.",
        )
    smoke.check(cluster)


def behind(client: ApiClient, commit: str, expected: Collection[str]) -> list[str]:
    """The DAGs that new runs do not start from a commit yet, sorted."""
    served = {dag["dag_id"] for dag in _dags(client) if dag["bundle_version"] == commit and not dag["is_stale"]}
    return sorted(set(expected) - served)


def _dags(client: ApiClient) -> list[dict[str, Any]]:
    """Every DAG as JSON, which the client of one version of Airflow reads from every other."""
    found: list[dict[str, Any]] = []
    while True:
        answer = DAGApi(client).get_dags_without_preload_content(limit=airflow_api.PAGE, offset=len(found))
        if answer.status != 200:
            raise fail(f"Airflow does not list its DAGs: {answer.status} {answer.reason}.", "Look at the API server.")
        page = json.loads(answer.data)
        found += page["dags"]
        if len(found) >= page["total_entries"] or not page["dags"]:
            return found


def _take_back(cluster: Cluster, commit: str, former: str, error: BaseException) -> None:
    """Move the branch back, and wait until Airflow has the former DAGs."""
    err.print(styled("failed", "bold red"), str(error) or "interrupted")
    dag_push.publish(cluster, former, commit)
    err.print(f"{former[:12]} is published again")
    # What has failed may be Airflow itself.
    with contextlib.suppress(Exception), airflow_api.login(cluster) as client:
        # The canary is one of the DAGs of every commit.
        if wait_until(lambda: not behind(client, former, [smoke.CANARY]), SERVED_SECONDS, 1):
            err.print(f"Airflow has the DAGs of {former[:12]} again")
