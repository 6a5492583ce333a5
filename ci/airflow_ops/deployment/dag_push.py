"""Push this checkout's commit to the DAG repository inside a development cluster."""

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import err, fail
from airflow_ops.paths import DAGS, ROOT


def push_arguments(cluster: Cluster, refspec: str) -> list[str]:
    """Arguments for git that push a refspec through `kubectl exec`.

    Everybody who may exec into the pod may push; the repository has no port that accepts writes.
    """
    kubectl = f"{programs.find('kubectl')} --context {cluster.context} -n {cluster.namespace}"
    remote = f"ext::{kubectl} exec -i airflow-git-origin-0 -- %S /git/dags.git"
    return ["-c", "protocol.ext.allow=always", "push", "--force", remote, refspec]


def push_head(cluster: Cluster, branch: str) -> None:
    """Push HEAD to a branch of the repository in the cluster.

    Args:
        cluster: The environment; `platform.gitOrigin` runs there.
        branch: The branch.

    Raises:
        ProblemError: Git refuses.
    """
    answer = programs.run("git", push_arguments(cluster, f"HEAD:refs/heads/{branch}"), cwd=ROOT)
    if answer.returncode != 0:
        raise fail(
            f"HEAD could not be pushed to {branch}: {programs.error_text(answer)}.",
            f"See whether its pod is ready: kubectl -n {cluster.namespace} get pod airflow-git-origin-0.",
        )


def push(cluster: Cluster) -> str | None:
    """Push HEAD to the tracked ref where `platform.gitOrigin` runs; elsewhere DAGs come from the team's Git.

    Args:
        cluster: The environment.

    Returns:
        The commit that was pushed, or None where the environment has no such repository.

    Raises:
        ProblemError: Git refuses.
    """
    values = cluster.environment.values
    if not values["platform"]["gitOrigin"]["enabled"]:
        return None
    if programs.run("git", ["status", "--porcelain", "--", str(DAGS)], cwd=ROOT).stdout.strip():
        err.print("note: dags/ has changes that are not committed; only commits are deployed")
    ref = values["global"]["dagBundle"]["trackingRef"]
    push_head(cluster, ref)
    return programs.run("git", ["rev-parse", "--short", "HEAD"], cwd=ROOT).stdout.strip()
