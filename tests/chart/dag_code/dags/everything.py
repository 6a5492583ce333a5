"""DAGs with all that Airflow stores about DAGs. What ROUND changes is stored anew."""

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetAlias,
    AssetWatcher,
    AsyncCallback,
    DeadlineAlert,
    DeadlineReference,
    Param,
    Variable,
)
from airflow.sdk.bases.hook import BaseHook
from fires import Watch, tell

ROUND = os.environ["ROUND"]
START = datetime(2026, 1, 1, tzinfo=UTC)
assert Variable.get("a_variable") == "its value"
assert BaseHook.get_connection("a_connection").host == "example.com"
made = Asset("made", uri="s3://bucket/made", extra={"round": ROUND})
watched = Asset("watched", watchers=[AssetWatcher("watcher", trigger=Watch(name=f"watcher{ROUND}"))])
alert = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(hours=int(ROUND)),
    callback=AsyncCallback("fires.later"),
)

with DAG(
    "everything",
    schedule="@daily",
    start_date=START,
    catchup=False,
    tags=["always", f"round{ROUND}"],
    default_args={"owner": "me"},
    owner_links={"me": f"https://example.com/{ROUND}"},
    params={"number": Param(1)},
    on_failure_callback=tell,
    deadline=alert,
):
    fires = EmptyOperator(task_id="fires", on_failure_callback=tell, on_success_callback=tell, outlets=[made])
    retried = EmptyOperator(task_id="retried", retries=2, pool="missing", outlets=[AssetAlias("alias")])
    fires >> retried >> EmptyOperator(task_id=f"round{ROUND}")

with DAG("on_assets", schedule=[made, watched], start_date=START):
    EmptyOperator(task_id="only", inlets=[made])

with DAG("on_alias", schedule=AssetAlias("alias"), start_date=START):
    EmptyOperator(task_id="only")

if ROUND == "1":
    with DAG(
        "goes", schedule=[Asset("goes"), Asset.ref(name="by_name"), Asset.ref(uri="s3://by/uri")], start_date=START
    ):
        EmptyOperator(task_id="only")
