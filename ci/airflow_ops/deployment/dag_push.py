"""Push commits to the repository that an environment's DAGs come from."""

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import err, fail
from airflow_ops.paths import DAGS, ROOT


def push_arguments(cluster: Cluster, refspec: str) -> list[str]:
    """Arguments for git that push a refspec through `kubectl exec`.

    Everybody who may exec into the pod may push; the repository has no port that accepts writes.
    """
    options, remote = _repository(cluster)
    return [*options, "push", "--force", remote, refspec]


def _repository(cluster: Cluster) -> tuple[list[str], str]:
    """The repository that the environment's mirror follows: options that Git needs for it, and its address."""
    values = cluster.environment.values["platform"]
    if not values["gitOrigin"]["enabled"]:
        return [], values["gitMirror"]["origin"]
    kubectl = f"{programs.find('kubectl')} --context {cluster.context} -n {cluster.namespace}"
    return ["-c", "protocol.ext.allow=always"], f"ext::{kubectl} exec -i airflow-git-origin-0 -- %S /git/dags.git"


def published(cluster: Cluster) -> str:
    """The commit of the branch that the environment's DAGs follow.

    Raises:
        ProblemError: They follow a tag or nothing, or the repository cannot be read.
    """
    ref = cluster.environment.values["global"]["dagBundle"]["trackingRef"]
    options, remote = _repository(cluster)
    answer = programs.run("git", [*options, "ls-remote", remote, f"refs/heads/{ref}"], cwd=ROOT)
    if answer.returncode != 0:
        raise fail(f"the DAGs' repository cannot be read: {programs.error_text(answer)}.", "Check your access to it.")
    if not answer.stdout:
        name = cluster.environment.name
        raise fail(
            f"{name} follows {ref}, which is no branch of its repository.",
            f"A tag does not move: commit another global.dagBundle.trackingRef, and deploy or upgrade {name}.",
            2,
        )
    return answer.stdout.split()[0]


def fetch(cluster: Cluster, commit: str) -> None:
    """Get a commit of the DAGs' repository into this checkout, from where it can be published again.

    Raises:
        ProblemError: The repository does not give it.
    """
    if programs.run("git", ["cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT).returncode == 0:
        return
    ref = cluster.environment.values["global"]["dagBundle"]["trackingRef"]
    options, remote = _repository(cluster)
    answer = programs.run("git", [*options, "fetch", "--no-tags", remote, f"refs/heads/{ref}"], cwd=ROOT)
    if answer.returncode != 0:
        raise fail(
            f"the present DAGs ({commit[:12]}) cannot be fetched: {programs.error_text(answer)}.",
            "Without them there would be no way back; nothing was changed.",
        )


def publish(cluster: Cluster, commit: str, former: str) -> None:
    """Move the branch that the environment's DAGs follow to a commit of this checkout.

    Args:
        cluster: The environment.
        commit: The commit.
        former: Where the branch is; if somebody has moved it meanwhile, nothing is changed.

    Raises:
        ProblemError: Somebody has moved it, or the repository refuses.
    """
    ref = f"refs/heads/{cluster.environment.values['global']['dagBundle']['trackingRef']}"
    options, remote = _repository(cluster)
    words = [*options, "push", f"--force-with-lease={ref}:{former}", remote, f"{commit}:{ref}"]
    answer = programs.run("git", words, cwd=ROOT)
    if answer.returncode != 0:
        raise fail(
            f"{ref} could not be moved to {commit[:12]}: {programs.error_text(answer)}.",
            "Somebody else has moved it, or you may not push to it.",
        )


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
