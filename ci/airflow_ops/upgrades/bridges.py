"""What lets an older Airflow work on the schema of a newer one, by the version that needs it.

`REHEARSE` tries on a copy of the database whether it is enough for the two versions of an upgrade.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import Version


@dataclass(frozen=True)
class Bridge:
    """What an Airflow from before a version needs on a database that this version has migrated or written to.

    Attributes:
        since: The first version with the newer schema.
        defaults: Default values, as SQL, of new columns by table and column. The older Airflow inserts rows without
            them; they must not be NULL, and the migration gives them no default.
        run_types: Types of DAG runs that it does not know, and what to write instead.
        unreadable_states: States of task instances that it does not know, and for which there is none instead.
    """

    since: Version
    defaults: dict[tuple[str, str], str]
    run_types: dict[str, str]
    unreadable_states: tuple[str, ...]


BRIDGES = (
    # Revision 0120 adds the column; TriggerDagRunOperator writes the type, and tasks that wait for a person the state.
    Bridge(
        since=Version("3.3.0"),
        defaults={("dag", "partition_mapper_info"): "'[]'"},
        run_types={"operator_triggered": "manual"},
        unreadable_states=("awaiting_input",),
    ),
)
"""All bridges, oldest first. Sources: revisions of apache/airflow; each was seen to fail without it."""


def between(older: str, newer: str) -> list[Bridge]:
    """The bridges that an Airflow needs beside or after another one; none where it is not the older one.

    Args:
        older: Version of the one.
        newer: Version of the other.
    """
    return [bridge for bridge in BRIDGES if Version(older) < bridge.since <= Version(newer)]


def until(version: str) -> list[Bridge]:
    """The bridges that an Airflow does not need, because it makes the schema itself."""
    return [bridge for bridge in BRIDGES if bridge.since <= Version(version)]


def default_statements(bridges: Iterable[Bridge]) -> list[str]:
    """SQL after which each column that is there has its default."""
    return [
        "DO $$ BEGIN IF EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = current_schema() AND "  # noqa: S608 our own names
        f"table_name = '{table}' AND column_name = '{column}' AND column_default IS NULL) THEN "
        f'ALTER TABLE "{table}" ALTER "{column}" SET DEFAULT {value}; END IF; END $$'
        for table, column, value in defaults(bridges)
    ]


def defaults(bridges: Iterable[Bridge]) -> list[tuple[str, str, str]]:
    """Table, column and default of every column."""
    return [(table, column, value) for bridge in bridges for (table, column), value in bridge.defaults.items()]


def rewrite_statements(bridges: Iterable[Bridge]) -> list[str]:
    """SQL after which no DAG run has, or will get, a type that the older Airflow does not know."""
    run_types = {old: new for bridge in bridges for old, new in bridge.run_types.items()}
    if not run_types:
        return []
    cases = " ".join(f"WHEN '{old}' THEN '{new}'" for old, new in run_types.items())
    listed = ", ".join(f"'{name}'" for name in run_types)
    return [
        f"CREATE OR REPLACE FUNCTION {TRIGGER}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN NEW.run_type := CASE NEW.run_type {cases} ELSE NEW.run_type END; RETURN NEW; END $$",
        # One transaction; PostgreSQL 13 cannot replace a trigger.
        f"DROP TRIGGER IF EXISTS {TRIGGER} ON dag_run; "
        f"CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OF run_type ON dag_run "
        f"FOR EACH ROW EXECUTE FUNCTION {TRIGGER}()",
        f"UPDATE dag_run SET run_type = CASE run_type {cases} END WHERE run_type IN ({listed})",  # noqa: S608 our own names
    ]


TRIGGER = "airflow_ops_run_types"
"""Name of the trigger, and of its function, that rewrites types of runs while tasks of the newer Airflow still end."""
REMOVE_TRIGGER = [f"DROP TRIGGER IF EXISTS {TRIGGER} ON dag_run", f"DROP FUNCTION IF EXISTS {TRIGGER}()"]
