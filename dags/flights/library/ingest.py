"""The steps of a day's ingest: stage what the source has, check it, load it. Each can be repeated."""

import logging
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypedDict
from zoneinfo import ZoneInfo

from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException

from flights.library.source import select
from flights.library.tables import DAILY, LOCAL_TIMEZONE, REFERENCE, TABLES
from shared.loading import staging, warehouse
from shared.loading.quality import Value, Verdict, check_partition, keys_of
from shared.loading.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


class Staged(TypedDict):
    """What was staged of one table: its file, and what only the source knows."""

    uri: str
    header: list[str]
    source_rows: int
    undated: int
    fingerprint: str
    read_at: str


class Checked(TypedDict):
    """What the gate let through of one table, and where the rest is."""

    uri: str
    rejected: int
    rejected_uri: str | None
    fingerprint: str
    read_at: str


def stage_day(source: ObjectStoragePath, folder: ObjectStoragePath, day: date) -> dict[str, Staged]:
    """Copy the day's rows of the daily tables, and the reference tables whole, into a folder."""
    staged: dict[str, Staged] = {}
    for table in TABLES:
        read_at = datetime.now(UTC).isoformat()
        selection = select(table, source, day if table.daily else None)
        path = folder / "raw" / f"{table.name}.parquet"
        staging.write_parquet(selection.to_arrow(), path)
        log.info("%s: %d rows staged in %s", table.name, len(selection.rows), path)
        staged[table.name] = Staged(
            uri=str(path),
            header=list(selection.header),
            source_rows=len(selection.rows),
            undated=selection.undated,
            fingerprint=selection.fingerprint,
            read_at=read_at,
        )
    return staged


def check_day(
    hook: DbApiHook,
    staged: dict[str, Staged],
    folder: ObjectStoragePath,
    day: date,
    run_id: str,
    max_rejected_share: float,
) -> dict[str, Checked]:
    """Check what was staged; stage the rows that may be loaded, keep the others apart.

    Args:
        hook: The warehouse, where the results of the checks are recorded.
        staged: What `stage_day` returned.
        folder: Where the rows that may be loaded are staged.
        day: The partition.
        run_id: The run that the results belong to.
        max_rejected_share: Share (0 to 1) of a table's rows that may be set aside.

    Raises:
        AirflowFailException: The day must not be loaded. No retry: the same rows would be judged the same.
    """
    warehouse.create_tables(hook, TABLES)
    known: dict[str, frozenset[Value]] = {}
    checked: dict[str, Checked] = {}
    refusals: list[str] = []
    for table in (*REFERENCE, *DAILY):
        verdict = _judge(table, staged[table.name], known, max_rejected_share, day)
        known[table.name] = keys_of(table, verdict.accepted)
        partition = day.isoformat() if table.daily else warehouse.WHOLE
        warehouse.record_results(hook, table.name, partition, verdict.results, run_id)
        checked[table.name] = Checked(
            uri=_stage_accepted(table, verdict, folder),
            rejected=len(verdict.rejected),
            rejected_uri=_keep_rejected(verdict, partition, run_id),
            fingerprint=staged[table.name]["fingerprint"],
            read_at=staged[table.name]["read_at"],
        )
        refusals += verdict.refusals
    if refusals:
        kept = [item["rejected_uri"] for item in checked.values() if item["rejected_uri"]]
        raise AirflowFailException(
            f"{day}: not loaded, the warehouse is unchanged. {' | '.join(refusals)}. "
            f"Rows set aside are in: {', '.join(kept) or 'no file, there are none'}."
        )
    return checked


def load_day(hook: DbApiHook, checked: dict[str, Checked], day: date, run_id: str) -> dict[str, int]:
    """Replace the day in the warehouse, and the reference tables that changed.

    Of two runs the one that read the source last wins, not the one that ends last, nor that of the later day: a
    backfill of an old day reads the newest reference tables.

    Returns:
        Rows in the warehouse by table, of what was loaded.
    """
    loads = [_load(table, checked[table.name], day.isoformat()) for table in DAILY]
    loads += [_load(table, checked[table.name], warehouse.WHOLE) for table in REFERENCE]
    return warehouse.load(hook, loads, run_id)


def _judge(
    table: Table, staged: Staged, known: dict[str, frozenset[Value]], max_rejected_share: float, day: date
) -> Verdict:
    raw = staging.read_parquet(ObjectStoragePath(staged["uri"])).to_pydict()
    verdict = check_partition(
        table,
        staged["header"],
        zip(raw["line"], raw["fields"], strict=True),
        staged["source_rows"],
        known,
        max_rejected_share,
        same_day=_is_local(day) if table.daily else None,
        undated=staged["undated"],
    )
    for result in verdict.results:
        if not result.passed:
            log.warning("%s.%s (%s): %s", table.name, result.check, result.severity, result.detail)
    log.info("%s: %d rows accepted, %d set aside", table.name, len(verdict.accepted), len(verdict.rejected))
    return verdict


def _is_local(day: date) -> Any:
    """Whether a UTC timestamp lies on this day at the place of the flights."""
    zone = ZoneInfo(LOCAL_TIMEZONE)

    def same_day(timestamp: str) -> bool:
        return datetime.fromisoformat(timestamp).astimezone(zone).date() == day

    return same_day


def _stage_accepted(table: Table, verdict: Verdict, folder: ObjectStoragePath) -> str:
    path = folder / "accepted" / f"{table.name}.parquet"
    staging.write_parquet(_to_arrow(table, verdict.accepted), path)
    return str(path)


def _to_arrow(table: Table, rows: list[tuple[Value, ...]]) -> "pa.Table":
    import pyarrow as pa

    types = {"integer": pa.int64(), "number": pa.float64(), "text": pa.string(), "timestamp": pa.string()}
    schema = pa.schema([(column.name, types[column.kind]) for column in table.columns])
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[] for _ in schema], schema=schema)


def _keep_rejected(verdict: Verdict, partition: str, run_id: str) -> str | None:
    """Write the rows set aside to a place that outlives the run's folder."""
    if not verdict.rejected:
        return None
    path = staging.storage("rejected", verdict.table, partition, f"{staging.safe_name(run_id)}.jsonl")
    staging.write_text(verdict.rejected_lines(), path)
    return str(path)


def _load(table: Table, checked: Checked, partition: str) -> warehouse.Load:
    accepted = staging.read_parquet(ObjectStoragePath(checked["uri"]))
    rows = list(zip(*(column.to_pylist() for column in accepted.columns), strict=True))
    return warehouse.Load(
        table,
        partition,
        rows,
        rejected=checked["rejected"],
        rejected_uri=checked["rejected_uri"],
        fingerprint=checked["fingerprint"],
        as_of=datetime.fromisoformat(checked["read_at"]),
    )
