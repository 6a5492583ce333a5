"""Descriptions of tables: columns, and the rules for their rows. Quality gate and warehouse use the same one."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["integer", "number", "text", "timestamp"]
Severity = Literal["error", "warning"]
"""Error: what fails stays out of the warehouse (a row, or the whole partition). Warning: it is loaded, and reported."""


@dataclass(frozen=True)
class Column:
    """A column of the source and of the warehouse.

    Attributes:
        name: As in the source.
        kind: What its text must read as; a timestamp is ISO 8601 in UTC.
        required: Whether every row has a value.
        minimum: Smallest value allowed.
        maximum: Largest value allowed.
    """

    name: str
    kind: Kind
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Reference:
    """A column whose values should be in another table.

    Attributes:
        column: The column that refers.
        table: The table referred to, by its one key column.
        severity: What happens to a row whose value is not there.
    """

    column: str
    table: str
    severity: Severity


@dataclass(frozen=True)
class Table:
    """A table of the warehouse, filled from one file of the source.

    Attributes:
        name: In the warehouse.
        file: Name of the source file.
        columns: In the source's order.
        key: The columns that identify a row.
        daily: Whether the rows are partitioned by `local_date`; else the table is one partition.
        references: Columns that refer to other tables.
        empty: What it means when a partition has no rows at all.
    """

    name: str
    file: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    daily: bool = False
    references: tuple[Reference, ...] = ()
    empty: Severity = "error"

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the source's columns, in its order."""
        return tuple(column.name for column in self.columns)


PARTITION_COLUMN = "local_date"
"""The partition of a daily table: the calendar day at the place of the event, which is not always that of UTC."""
