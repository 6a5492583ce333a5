"""Whether each DAG is as fresh as `dags/config/promises.yaml` promises, by what Airflow's REST API says."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from airflow.providers.common.sql.hooks.sql import DbApiHook

from shared.configuration import CONFIG, Positive, read
from shared.loading.warehouse import create, execute, insert, transaction

PROMISES = CONFIG / "promises.yaml"
KEEP_DAYS = 90
TABLE = """CREATE TABLE IF NOT EXISTS dag_freshness (
    run_id TEXT NOT NULL, checked_at TIMESTAMP WITH TIME ZONE NOT NULL, dag_id TEXT NOT NULL, state TEXT NOT NULL,
    age_minutes DOUBLE PRECISION, promised_minutes DOUBLE PRECISION NOT NULL, PRIMARY KEY (run_id, dag_id))"""
COLUMNS = ("run_id", "checked_at", "dag_id", "state", "age_minutes", "promised_minutes")
State = Literal["fresh", "late", "paused", "unknown"]


@dataclass(frozen=True)
class Freshness:
    """Whether one DAG keeps its promise.

    Attributes:
        dag_id: The DAG.
        state: `late`: older than promised. `unknown`: Airflow does not have the DAG. Paused DAGs promise nothing.
        age_minutes: Minutes since its last successful run ended; None if there is none to count from.
        promised_minutes: How old that may be.
    """

    dag_id: str
    state: State
    age_minutes: float | None
    promised_minutes: float

    def __str__(self) -> str:
        age = "" if self.age_minutes is None else f", last success {self.age_minutes:.0f} min ago"
        return f"{self.dag_id}: {self.state}{age}, promised {self.promised_minutes:g} min"


@cache
def promises(path: Path = PROMISES) -> dict[str, float]:
    """Promised minutes by DAG.

    Raises:
        ValueError: A promise is not a number above 0; file and key are named.
    """
    return read(path, dict[str, Positive])


def check(api: Any, promised: dict[str, float], now: dt.datetime) -> list[Freshness]:
    """Check every promise.

    Args:
        api: What `shared.watching.platform_api.logged_in` gave.
        promised: Minutes by DAG.
        now: The time that ages are counted to.
    """
    return [_check(api, dag_id, minutes, now) for dag_id, minutes in sorted(promised.items())]


def record(hook: DbApiHook, run_id: str, found: Iterable[Freshness], now: dt.datetime) -> None:
    """Write a run's findings to `dag_freshness`, in place of those of an earlier try; old ones go."""
    create(hook, [TABLE])
    oldest = (now - dt.timedelta(days=KEEP_DAYS)).isoformat()
    rows = [(run_id, now.isoformat(), one.dag_id, one.state, one.age_minutes, one.promised_minutes) for one in found]
    with transaction(hook) as cursor:
        execute(hook, cursor, "DELETE FROM dag_freshness WHERE run_id = ? OR checked_at < ?", [run_id, oldest])
        insert(hook, cursor, "dag_freshness", COLUMNS, rows)


def _check(api: Any, dag_id: str, minutes: float, now: dt.datetime) -> Freshness:
    answer = api.get(f"/api/v2/dags/{dag_id}/details")
    if answer.status_code == 404:
        return Freshness(dag_id, "unknown", None, minutes)
    dag = answer.raise_for_status().json()
    if dag["is_paused"]:
        return Freshness(dag_id, "paused", None, minutes)
    query = {"state": "success", "order_by": "-end_date", "limit": 1}
    runs = api.get(f"/api/v2/dags/{dag_id}/dagRuns", params=query).raise_for_status().json()["dag_runs"]
    if not runs:
        return Freshness(dag_id, "late" if _runs(api, dag_id) else "fresh", None, minutes)
    age = (now - dt.datetime.fromisoformat(runs[0]["end_date"])).total_seconds() / 60
    return Freshness(dag_id, "late" if age > minutes else "fresh", round(age, 1), minutes)


def _runs(api: Any, dag_id: str) -> int:
    """How many runs a DAG has that ended, none of them well: one that is new to Airflow is not late."""
    query = {"state": "failed", "limit": 1}
    answer = api.get(f"/api/v2/dags/{dag_id}/dagRuns", params=query).raise_for_status().json()
    return int(answer["total_entries"])
