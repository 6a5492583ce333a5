"""Checks of the platform's health: each asks one part of it, the way a task or a user would."""

import datetime as dt
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow.sdk import ObjectStoragePath, Variable

from shared.authoring.settings import settings
from shared.loading.warehouse import execute, insert, query, transaction, warehouse_hook
from shared.watching import platform_api

CHECK_DEADLINE_SECONDS = 30
"""For all checks together, which run at once: a check that hangs is reported as such and delays no other."""
KEEP_DAYS = 30
CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS health_checks (
    run_id TEXT NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    name TEXT NOT NULL,
    healthy BOOLEAN NOT NULL,
    detail TEXT NOT NULL,
    latency_seconds DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (run_id, name)
)"""
COLUMNS = ("run_id", "checked_at", "name", "healthy", "detail", "latency_seconds")
DAG_ID = "platform_check_health"
"""The DAG whose last parse shows how fresh the bundle is: its own, because that one is always there."""


class UnhealthyError(Exception):
    """A part of the platform answers, but not as it should."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: What was checked.
        healthy: Whether it is as it should be.
        detail: What was seen, or the error.
        latency_seconds: How long the check took.
    """

    name: str
    healthy: bool
    detail: str
    latency_seconds: float


Check = Callable[[], str]
"""Gives what was seen; raises any error if that is not healthy."""


def check_metadata_database() -> str:
    """The metadata database, as the API server sees it: a worker has no access to it."""
    status = _platform_health()["metadatabase"]["status"]
    if status != "healthy":
        raise UnhealthyError(f"the API server says {status}")
    return "reached by the API server"


def check_heartbeat(component: str, limit_seconds: float) -> str:
    """The age of a component's last heartbeat.

    Args:
        component: `scheduler`, `triggerer` or `dag_processor`.
        limit_seconds: The oldest acceptable heartbeat.
    """
    latest = (_platform_health().get(component) or {}).get(f"latest_{component}_heartbeat")
    if latest is None:
        raise UnhealthyError("no heartbeat was ever recorded")
    return _fresh(f"last heartbeat of {component}", latest, limit_seconds)


def check_bundle() -> str:
    """The age of the last parse of this DAG: an old one means that changes to the bundle do not arrive."""
    with platform_api.logged_in() as client:
        answer = client.get(f"/api/v2/dags/{DAG_ID}").raise_for_status()
    parsed = answer.json()["last_parsed_time"]
    if parsed is None:
        raise UnhealthyError(f"{DAG_ID} was never parsed")
    return _fresh("last parse", parsed, settings().health.bundle_parse_seconds)


def check_warehouse() -> str:
    """A query through the connection that the pipelines use."""
    answer = query(warehouse_hook(), "SELECT 1 AS one")
    if answer != [{"one": 1}]:
        raise UnhealthyError(f"SELECT 1 gave {answer}")
    return "SELECT 1 answered"


def check_object_storage() -> str:
    """Write, read and delete one small object: a listing alone would not show a missing right to write."""
    path = ObjectStoragePath(Variable.get("object_storage_uri")) / "health" / f"{uuid.uuid4()}.json"
    written = json.dumps({"checked_at": dt.datetime.now(dt.UTC).isoformat()})
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_text(written)
        if path.read_text() != written:
            raise UnhealthyError(f"{path} does not hold what was written")
    finally:
        path.unlink(missing_ok=True)
    return f"wrote, read and deleted an object in {path.parent}"


def checks() -> dict[str, Check]:
    """All checks by name, with the limits of this environment."""
    limits = settings().health
    return {
        "metadata database": check_metadata_database,
        "scheduler": partial(check_heartbeat, "scheduler", limits.scheduler_heartbeat_seconds),
        "triggerer": partial(check_heartbeat, "triggerer", limits.component_heartbeat_seconds),
        "dag processor": partial(check_heartbeat, "dag_processor", limits.component_heartbeat_seconds),
        "bundle": check_bundle,
        "warehouse": check_warehouse,
        "object storage": check_object_storage,
    }


def run_checks(wanted: dict[str, Check], deadline_seconds: float = CHECK_DEADLINE_SECONDS) -> list[CheckResult]:
    """Run checks at the same time; none can hide, stop or delay another.

    Args:
        wanted: Checks by name.
        deadline_seconds: When to stop waiting for those that have not answered.

    Returns:
        One result a check, in the order of `wanted`.
    """
    results: dict[str, CheckResult] = {}

    def run(name: str) -> None:
        results[name] = _run_check(name, wanted[name])

    # Daemon threads: one that hangs in a connect must not keep the task's process alive.
    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in wanted]
    deadline = time.monotonic() + deadline_seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer in {deadline_seconds:g} s"
    return [results.get(name) or CheckResult(name, False, late, deadline_seconds) for name in wanted]


def _run_check(name: str, check: Check) -> CheckResult:
    start = time.monotonic()
    try:
        healthy, detail = True, check()
    except Exception as error:
        healthy, detail = False, f"{type(error).__name__}: {error}"
    return CheckResult(name, healthy, detail, round(time.monotonic() - start, 3))


def table(results: Iterable[CheckResult]) -> str:
    """The results as text, one line each."""
    lines = [f"{'check':<18} {'state':<10} {'seconds':>8}  detail"]
    for result in results:
        state = "healthy" if result.healthy else "UNHEALTHY"
        lines.append(f"{result.name:<18} {state:<10} {result.latency_seconds:>8.3f}  {result.detail}")
    return "\n".join(lines)


def record(run_id: str, results: Iterable[CheckResult]) -> None:
    """Write the results of a run to the table `health_checks`; writing them again replaces them.

    Rows older than `KEEP_DAYS` days go, so that the table stays small by itself.

    Args:
        run_id: The DAG run that the results belong to.
        results: What its checks found.
    """
    now = dt.datetime.now(dt.UTC)
    oldest = (now - dt.timedelta(days=KEEP_DAYS)).isoformat()
    rows = [(run_id, now.isoformat(), r.name, r.healthy, r.detail, r.latency_seconds) for r in results]
    hook = warehouse_hook()
    with transaction(hook) as cursor:
        cursor.execute(CREATE_TABLE)
        execute(hook, cursor, "DELETE FROM health_checks WHERE run_id = ? OR checked_at < ?", (run_id, oldest))
        insert(hook, cursor, "health_checks", COLUMNS, rows)


def _fresh(what: str, timestamp: str, limit_seconds: float) -> str:
    age = (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(timestamp)).total_seconds()
    if age > limit_seconds:
        raise UnhealthyError(f"{what} {age:.0f} s ago, more than {limit_seconds:g} s")
    return f"{what} {age:.0f} s ago"


def _platform_health() -> dict[str, Any]:
    """What the API server says of all components; needs no login."""
    with platform_api.client() as client:
        body: dict[str, Any] = client.get("/api/v2/monitor/health").raise_for_status().json()
        return body
