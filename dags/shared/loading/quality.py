"""The quality gate: which rows may enter the warehouse, and whether their partition may.

Every check has a severity. Error: what fails stays out, a row by itself or the whole partition. Warning: it is loaded,
counted and reported. Rows that stay out are kept with the reasons; if too many stay out, the whole partition does.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.loading.tables import Column, Kind, Reference, Severity, Table

Value = int | float | str | None
MISSING = ("", "NA")
"""How the published files write that there is no value."""


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        check: Its name.
        severity: What it means if it does not pass.
        passed: Whether nothing is wrong.
        observed: What was measured: for a check on rows, how many failed it.
        threshold: What it was measured against.
        detail: In words, with an example.
    """

    check: str
    severity: Severity
    passed: bool
    observed: float
    threshold: float
    detail: str = ""


@dataclass(frozen=True)
class Rejected:
    """A row that stays out: its line in the source, its text, and why."""

    line: int
    fields: list[str]
    reasons: list[str]


@dataclass
class Verdict:
    """What the gate says on one partition of one table.

    Attributes:
        table: The table's name.
        accepted: The rows to load, values in the order of the table's columns.
        rejected: The rows set aside.
        results: All checks, passed or not.
    """

    table: str
    accepted: list[tuple[Value, ...]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    @property
    def refusals(self) -> list[str]:
        """Why the partition must stay out; empty if it may be loaded."""
        return [
            f"{self.table}.{result.check}: {result.detail}"
            for result in self.results
            if result.severity == "error" and not result.passed and result.check in PARTITION_CHECKS
        ]

    def rejected_lines(self) -> str:
        """The rows set aside as JSON lines, one row each."""
        return "".join(
            json.dumps({"line": row.line, "reasons": row.reasons, "fields": row.fields}) + "\n" for row in self.rejected
        )


PARTITION_CHECKS = ("schema", "row_count", "not_empty", "rejected_share")
ROW_CHECKS = ("well_formed", "required", "type", "range", "local_day", "unique")


def check_partition(
    table: Table,
    header: Sequence[str],
    rows: Iterable[tuple[int, list[str]]],
    source_rows: int,
    known: Mapping[str, frozenset[Value]],
    max_rejected_share: float,
    same_day: Callable[[str], bool] | None = None,
    undated: int = 0,
) -> Verdict:
    """Check all rows of one partition.

    Args:
        table: What they should be.
        header: The names of the columns that they have.
        rows: Line number and fields.
        source_rows: How many the source has of this partition.
        known: Keys of the tables that this one refers to, by table.
        max_rejected_share: Share of the rows (0 to 1) up to which some may stay out.
        same_day: Whether a UTC timestamp of `time_hour` lies in the partition; None for a table without days.
        undated: Lines of the source that no partition can claim.
    """
    verdict = Verdict(table.name)
    if not _check_schema(verdict, table, header):
        return verdict
    failed: Counter[str] = Counter()
    unknown: dict[Reference, Counter[Value]] = {reference: Counter() for reference in table.references}
    seen: dict[tuple[Value, ...], int] = {}
    for line, fields in rows:
        values, reasons = _read(table.columns, fields)
        if not reasons:
            reasons = _judge(table, values, line, seen, known, unknown, same_day)
        if reasons:
            failed.update({check for check, _ in reasons})
            verdict.rejected.append(Rejected(line, fields, [f"{check}: {reason}" for check, reason in reasons]))
        else:
            verdict.accepted.append(tuple(values))
    _row_results(verdict, failed, unknown, undated)
    _partition_results(verdict, table, source_rows, max_rejected_share)
    return verdict


def keys_of(table: Table, rows: Iterable[Sequence[Value]]) -> frozenset[Value]:
    """The values of a table's one key column."""
    position = table.header.index(table.key[0])
    return frozenset(row[position] for row in rows)


Reasons = list[tuple[str, str]]


def _check_schema(verdict: Verdict, table: Table, header: Sequence[str]) -> bool:
    passed = tuple(header) == table.header
    missing, extra = sorted(set(table.header) - set(header)), sorted(set(header) - set(table.header))
    detail = (
        f"columns missing: {', '.join(missing) or 'none'}; unknown: {', '.join(extra) or 'none'}; "
        f"expected in this order: {', '.join(table.header)}"
    )
    off = float(len(missing) + len(extra))
    verdict.results.append(Result("schema", "error", passed, off, 0.0, "" if passed else detail))
    return passed


def _read(columns: Sequence[Column], fields: Sequence[str]) -> tuple[list[Value], Reasons]:
    """The values of a row, or what is wrong with it, column by column."""
    if len(fields) != len(columns):
        return [], [("well_formed", f"{len(fields)} fields, expected {len(columns)}")]
    values: list[Value] = []
    reasons: Reasons = []
    for column, text in zip(columns, fields, strict=True):
        try:
            value = None if text in MISSING else READERS[column.kind](text)
        except ValueError:
            reasons.append(("type", f"{column.name} is not of type {column.kind}: {text[:40]!r}"))
            continue
        values.append(value)
        if reason := _column_reason(column, value):
            reasons.append(reason)
    return values, reasons


def _column_reason(column: Column, value: Value) -> tuple[str, str] | None:
    if value is None:
        return ("required", f"{column.name} has no value") if column.required else None
    if isinstance(value, str):
        return None
    if column.minimum is not None and value < column.minimum:
        return "range", f"{column.name} is {value}, less than {column.minimum:g}"
    if column.maximum is not None and value > column.maximum:
        return "range", f"{column.name} is {value}, more than {column.maximum:g}"
    return None


def _judge(
    table: Table,
    values: Sequence[Value],
    line: int,
    seen: dict[tuple[Value, ...], int],
    known: Mapping[str, frozenset[Value]],
    unknown: Mapping[Reference, Counter[Value]],
    same_day: Callable[[str], bool] | None,
) -> Reasons:
    """What is wrong with a row as a whole: its day, its key and what it refers to."""
    row = dict(zip(table.header, values, strict=True))
    reasons: Reasons = []
    if same_day is not None and not same_day(str(row["time_hour"])):
        reasons.append(("local_day", f"time_hour {row['time_hour']} is on another day than year, month and day"))
    for reference in table.references:
        value = row[reference.column]
        if value is not None and value not in known[reference.table]:
            unknown[reference][value] += 1
            if reference.severity == "error":
                reasons.append(
                    (_reference_check(reference), f"{reference.column} {value!r} is not in {reference.table}")
                )
    key = tuple(row[name] for name in table.key)
    if not reasons and seen.setdefault(key, line) != line:
        reasons.append(("unique", f"{', '.join(table.key)} as in line {seen[key]}"))
    return reasons


def _reference_check(reference: Reference) -> str:
    return f"{reference.column}_in_{reference.table}"


def _row_results(
    verdict: Verdict, failed: Counter[str], unknown: Mapping[Reference, Counter[Value]], undated: int
) -> None:
    for check in ROW_CHECKS:
        detail = f"{failed[check]} rows set aside" if failed[check] else ""
        verdict.results.append(Result(check, "error", not failed[check], failed[check], 0.0, detail))
    for reference, values in unknown.items():
        count = values.total()
        common = ", ".join(f"{value} ({number})" for value, number in values.most_common(3))
        detail = f"{count} rows, {len(values)} values not in {reference.table}, such as {common}" if count else ""
        verdict.results.append(Result(_reference_check(reference), reference.severity, not count, count, 0.0, detail))
    detail = f"{undated} lines of the file name no day and are in no partition" if undated else ""
    verdict.results.append(Result("dated", "warning", not undated, undated, 0.0, detail))


def _partition_results(verdict: Verdict, table: Table, source_rows: int, max_rejected_share: float) -> None:
    accepted, rejected = len(verdict.accepted), len(verdict.rejected)
    rows = accepted + rejected
    detail = "" if rows == source_rows else f"{rows} rows staged, {source_rows} in the source"
    verdict.results.append(Result("row_count", "error", rows == source_rows, rows, source_rows, detail))
    detail = "" if rows else f"the source has no rows of this partition ({table.file})"
    verdict.results.append(Result("not_empty", table.empty, rows > 0, rows, 1.0, detail))
    share = rejected / rows if rows else 0.0
    detail = (
        f"{rejected} of {rows} rows rejected ({share:.2%}), allowed {max_rejected_share:.2%}; "
        f"first: line {verdict.rejected[0].line}, {'; '.join(verdict.rejected[0].reasons)}"
        if rejected
        else ""
    )
    verdict.results.append(
        Result("rejected_share", "error", share <= max_rejected_share, share, max_rejected_share, detail)
    )


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _timestamp(text: str) -> str:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(text)
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


READERS: dict[Kind, Callable[[str], Any]] = {"integer": int, "number": _number, "text": str, "timestamp": _timestamp}
