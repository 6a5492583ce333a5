"""Refresh the configurations of generated DAGs from a database and from an API."""

import logging
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources

CONNECTION = "snapshots_git"
log = logging.getLogger(__name__)


@task(pool="api")
def refresh() -> str:
    """Ask the sources, check the answers, push what changed; fail for what is wrong, after the rest is published."""
    import tempfile
    from pathlib import Path

    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

    from shared.loading.warehouse import warehouse_hook
    from shared.patterns import snapshots
    from shared.watching import platform_api

    with platform_api.client() as api:
        exports = snapshots.from_database(warehouse_hook(), "flights_export_", owner="flights")
        probes = snapshots.from_api(api, "platform_probe_", owner="platform")
    sources = [
        snapshots.Source("flights_export_", exports, tables="flights.library.tables"),
        snapshots.Source("platform_probe_", probes),
    ]
    wanted = [source for source in sources if source.entries]
    try:
        extra = BaseHook.get_connection(CONNECTION).extra_dejson
    except AirflowNotFoundException:
        with tempfile.TemporaryDirectory() as folder:
            outcomes = {source.prefix: snapshots.write(Path(folder), source) for source in wanted}
        result = f"checked, not published: the connection {CONNECTION} does not exist"
    else:
        outcomes = snapshots.publish(CONNECTION, extra["branch"], extra["subdir"], wanted)
        result = "published"
    for prefix, outcome in outcomes.items():
        log.info("%s*: %s; %s", prefix, outcome, result)
    refused = {dag_id: reason for outcome in outcomes.values() for dag_id, reason in outcome.refused.items()}
    if refused:
        raise AirflowFailException(f"kept as they were: {'; '.join(f'{name}: {why}' for name, why in refused.items())}")
    return result


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

    Reads the active rows of the warehouse table `pipeline_configurations` (DAGs `flights_export_*`) and the endpoints
    that the REST API names (DAGs `platform_probe_*`), checks each, and pushes what changed to the repository of the
    bundle through the connection `snapshots_git` (type git; extra: `branch`, `subdir`). Without it, it only checks.

    **If it fails** the error names each entry that is wrong and its key; that DAG stays as it was, all others are
    published. "the source names n of m DAGs": the source lost more than half, and nothing was changed.
    """
    refresh()


platform_refresh_snapshots()
