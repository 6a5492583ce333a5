"""Refresh the configurations of generated DAGs from a database and from an API."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources

CONNECTION = "snapshots_git"


@task(pool="api")
def refresh() -> str:
    """Ask the sources, check the answers, push what changed to a branch; fail for what is wrong, after the rest."""
    import tempfile
    from pathlib import Path

    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

    from shared.generating import snapshots

    try:
        target = snapshots.Target.of(CONNECTION, BaseHook.get_connection(CONNECTION).extra_dejson)
    except AirflowNotFoundException:
        target = None
    except ValueError as error:
        raise AirflowFailException(str(error)) from None
    answers = {source: source.read() for source in snapshots.sources()}
    wanted = {source: entries for source, entries in answers.items() if entries}
    if target:
        outcomes = snapshots.publish(CONNECTION, target, wanted)
        waits = any(outcome.written or outcome.removed for outcome in outcomes.values())
        done = f"waiting in branch {target.branch} to be merged into {target.base}" if waits else "nothing to merge"
    else:
        with tempfile.TemporaryDirectory() as folder:
            outcomes = {source.prefix: snapshots.write(Path(folder), source, wanted[source]) for source in wanted}
        done = f"checked, not published: the connection {CONNECTION} does not exist"
    for prefix, outcome in outcomes.items():
        print(f"{prefix}*: written {outcome.written}, removed {outcome.removed}, refused {outcome.refused}; {done}")
    refused = {dag_id: reason for outcome in outcomes.values() for dag_id, reason in outcome.refused.items()}
    if refused:
        raise AirflowFailException(f"kept as they were: {'; '.join(f'{name}: {why}' for name, why in refused.items())}")
    return done


@dag(
    schedule="40 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    default_args=default_args("platform", "api", executor_config=resources("small")),
    on_failure_callback=notify_run_failure,
    tags=["platform", "pattern"],
)
def platform_refresh_snapshots() -> None:
    """### Configurations of generated DAGs, as a commit.

    Asks the sources of `dags/config/snapshot_sources.yaml`: the active rows of the warehouse table
    `pipeline_configurations` (DAGs `flights_export_*`) and the endpoints that the REST API names (DAGs
    `platform_probe_*`). Checks each answer, and pushes what changed to a branch of the bundle's repository through the
    connection `snapshots_git` (type git; extra: `branch`, which is `snapshots/<environment>`; `base`, the branch to
    merge it into; `subdir`). Without this connection it only checks. Nothing changes until somebody has merged the
    branch; each refresh replaces it, and deletes it once there is nothing to merge.

    **If it fails** the error names each entry that is wrong and its key; that DAG stays as it was, all others are
    pushed. "the source names n of m DAGs": the source lost more than half, and nothing was changed. "extra of the
    connection": its branch is one that an environment may follow, or a key is missing.
    """
    refresh()


platform_refresh_snapshots()
