"""DAGs from a database and from an API, by a snapshot in Git: a DAG file reads a file beside it and nothing else.

A refresh asks the sources, checks each answer, and writes a configuration and a DAG file for each entry. One file a
DAG, so that a mistake costs its own DAG only. An entry that is wrong keeps its last good files, and the run names it.
The files become a commit of the bundle's repository: DAG processor and workers see the same, a run keeps its version,
and a bad refresh is reverted like any change. Decision: docs/adr/0014.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from airflow.providers.common.sql.hooks.sql import DbApiHook
from pydantic import Field

from shared.authoring.configuration import CONFIG, Cron, Section, check

SNAPSHOTS = CONFIG / "snapshots"
TEMPLATE = Path(__file__).parent / "snapshot_dag.py.j2"
TABLE = """CREATE TABLE IF NOT EXISTS pipeline_configurations (
    pipeline_name TEXT NOT NULL PRIMARY KEY, source_system TEXT NOT NULL, target_table TEXT NOT NULL,
    schedule_interval TEXT, is_active INTEGER NOT NULL, config_json TEXT NOT NULL)"""
"""Fields of the Airflow field guides."""
TIMEOUT_MINUTES = 30
"""Of an entry that names none."""
PUSH_TRIES = 3
Entries = dict[str, dict[str, Any]]


class Entry(Section):
    """What every entry has.

    Attributes:
        owner: The team that answers for the DAG.
        schedule: Cron in UTC; None for a DAG that is started by hand.
        timeout_minutes: After which a run fails; at most a day.
    """

    owner: Annotated[str, Field(min_length=1)]
    schedule: Cron | None
    timeout_minutes: Annotated[int, Field(ge=1, le=1440)]


class Export(Entry):
    """A table of the warehouse as a file."""

    kind: Literal["export"]
    table: str


class Probe(Entry):
    """One request to an API: its path below the connection `airflow_api`."""

    kind: Literal["probe"]
    endpoint: Annotated[str, Field(pattern="^/")]


def snapshot_of(content: Any) -> Export | Probe:
    """What an entry says.

    Raises:
        ValueError: A key is unknown, missing or wrong; it is named.
    """
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind == "export":
        return check(content, Export)
    if kind == "probe":
        return check(content, Probe)
    raise ValueError(f"kind: should be export or probe, found {kind!r}")


@dataclass(frozen=True)
class Source:
    """Where entries come from, and what their DAG files need.

    Attributes:
        prefix: What the ids of its DAGs begin with: the domain, and the action. DAGs of other names are left alone.
        entries: By DAG id.
        tables: Module that has the tables of its exports as `TABLES`; empty where it has no exports.
    """

    prefix: str
    entries: Entries
    tables: str = ""


class RefusedError(Exception):
    """A snapshot as a whole is not to be believed."""


@dataclass
class Outcome:
    """What a refresh did: DAG ids, and for those refused the key and what is wrong with it."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def from_database(hook: DbApiHook, prefix: str, owner: str) -> Entries:
    """An export for each active row of the warehouse table `pipeline_configurations`, by DAG id.

    Args:
        hook: The warehouse.
        prefix: What the DAG ids begin with.
        owner: Of a row whose `config_json` names none.
    """
    from shared.loading.warehouse import create, query

    create(hook, [TABLE])
    columns = "pipeline_name, target_table, schedule_interval, config_json"
    sql = f"SELECT {columns} FROM pipeline_configurations WHERE is_active = 1"  # noqa: S608  names are those above
    return {
        f"{prefix}{row['pipeline_name']}": {
            "owner": owner,
            "timeout_minutes": TIMEOUT_MINUTES,
            "kind": "export",
            "table": row["target_table"],
            "schedule": row["schedule_interval"],
            **_settings(row["config_json"]),
        }
        for row in query(hook, sql)
    }


def from_api(api: Any, prefix: str, owner: str) -> Entries:
    """A probe for each endpoint without parameters and login that the API names itself, by DAG id.

    Args:
        api: What `shared.watching.platform_api.client` gave.
        prefix: What the DAG ids begin with.
        owner: The team that answers for the DAGs.
    """
    paths = api.get("/openapi.json").raise_for_status().json()["paths"]
    found = [
        path for path, ways in paths.items() if "get" in ways and "{" not in path and not ways["get"].get("security")
    ]
    return {
        f"{prefix}{path.rsplit('/', 1)[1].replace('-', '_')}": {
            "owner": owner,
            "timeout_minutes": TIMEOUT_MINUTES,
            "kind": "probe",
            "endpoint": path,
            "schedule": None,
        }
        for path in sorted(found)
        if path.startswith("/api/v2/monitor/") or path == "/api/v2/version"
    }


def fault(dag_id: str, entry: Mapping[str, Any], tables: str) -> str | None:
    """What is wrong with an entry, by key; None if nothing is.

    Args:
        dag_id: Its DAG.
        entry: The entry.
        tables: Of its source.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*_[a-z0-9]+_[a-z0-9_]*[a-z0-9]", dag_id):
        return f"{dag_id!r} is not a DAG id <domain>_<action>_<target>"
    try:
        checked = snapshot_of(dict(entry))
    except ValueError as error:
        return str(error)
    if isinstance(checked, Export):
        known = [table.name for table in import_module(tables).TABLES] if tables else []
        if checked.table not in known:
            return f"table: there is no table {checked.table!r}: use one of {', '.join(known) or 'none'}"
    return None


def write(bundle: Path, source: Source) -> Outcome:
    """Bring the files of one source in a bundle to its entries.

    Args:
        bundle: The bundle's root, with its folders `config` and one a domain.
        source: The source.

    Raises:
        RefusedError: The source names nothing, or less than half of what is there: more likely a fault than a wish.
            Nothing is written.
    """
    folder, prefix, entries = bundle / "config/snapshots", source.prefix, source.entries
    text = _dag_text(source.tables)
    there = {path.stem for path in folder.glob(f"{prefix}*.json")}
    if not entries or len(there & set(entries)) < len(there) / 2:
        raise RefusedError(
            f"{prefix}*: the source names {len(there & set(entries))} of the {len(there)} DAGs there are."
        )
    outcome = Outcome()
    for dag_id, entry in sorted(entries.items()):
        if not dag_id.startswith(prefix):
            outcome.refused[dag_id] = f"does not begin with {prefix}"
        elif wrong := fault(dag_id, entry, source.tables):
            outcome.refused[dag_id] = wrong
        elif _replace(folder / f"{dag_id}.json", _json(entry)) | _replace(_dag_file(bundle, dag_id), text):
            outcome.written.append(dag_id)
    for dag_id in sorted(there - set(entries)):
        (folder / f"{dag_id}.json").unlink()
        _dag_file(bundle, dag_id).unlink(missing_ok=True)
        outcome.removed.append(dag_id)
    return outcome


def publish(conn_id: str, branch: str, subdir: str, sources: Iterable[Source]) -> dict[str, Outcome]:
    """Write all sources into a clone of the bundle's repository, and push what changed as one commit.

    Returns:
        The outcome by prefix.

    Args:
        conn_id: Connection of type `git` that may push to the branch.
        branch: The one that the bundle tracks.
        subdir: The bundle's folder in the repository.
        sources: All of them.

    Raises:
        RefusedError: As of `write`; nothing is pushed.
        git.GitCommandError: The repository refused the push, again and again.
    """
    import git
    from airflow.providers.git.hooks.git import GitHook

    hook = GitHook(git_conn_id=conn_id)
    with hook.configure_hook_env(), tempfile.TemporaryDirectory(prefix="snapshots-") as folder:
        clone = git.Repo.clone_from(str(hook.repo_url), folder, branch=branch, depth=1, env=hook.env)
        clone.git.update_environment(**hook.env)
        for left in reversed(range(PUSH_TRIES)):
            outcomes = {source.prefix: write(Path(folder) / subdir, source) for source in sources}
            clone.git.add(A=True)
            if not clone.is_dirty():
                return outcomes
            names = [name for one in outcomes.values() for name in (*one.written, *one.removed)]
            author = ["-c", "user.name=platform_refresh_snapshots", "-c", "user.email=platform@example.com"]
            clone.git.execute(["git", *author, "commit", "-qm", f"Refresh of {', '.join(names)}"])
            try:
                clone.git.push("origin", f"HEAD:{branch}")
            except git.GitCommandError:
                if not left:
                    raise
                clone.git.fetch("origin", branch)  # somebody was faster: the same again on top of theirs
                clone.git.reset("FETCH_HEAD", hard=True)
            else:
                return outcomes
    raise AssertionError("unreachable")


def _settings(text: str) -> dict[str, Any]:
    """Further keys of a row; text that is not a JSON map becomes a key that the check refuses and names."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"config_json": text}


def _replace(path: Path, text: str) -> bool:
    """Whether a file had to change."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def _json(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, indent=2, sort_keys=True) + "\n"


def _dag_file(bundle: Path, dag_id: str) -> Path:
    return bundle / dag_id.split("_", 1)[0] / f"{dag_id}.py"


def _dag_text(tables: str) -> str:
    import jinja2

    made: str = jinja2.Template(TEMPLATE.read_text(), keep_trailing_newline=True, trim_blocks=True).render(
        tables=tables
    )
    return made
