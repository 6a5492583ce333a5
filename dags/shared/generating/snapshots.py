"""DAGs from a database and from an API, by a snapshot in Git: a DAG file reads a file beside it and nothing else.

A refresh asks the sources (`dags/config/snapshot_sources.yaml`), checks each answer, and writes a configuration and a
DAG file for each entry. One file a DAG, so that a mistake stops only its own DAG (see `shared.generating.tenants`).
What is wrong keeps its last good files and is reported. The files become a commit in a branch of the bundle's
repository, and people merge it into the one that is followed: DAG processor and workers see the same, a run keeps its
version, and a bad refresh is reverted like any change. The decision: docs/adr/0014.
"""

import json
import pkgutil
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field

from shared.configuration import CONFIG, Closed, Text, check, read
from shared.generating.snapshot_dags import Snapshot, domain_of

if TYPE_CHECKING:
    import git
    from airflow.providers.common.sql.hooks.sql import DbApiHook

SOURCES = CONFIG / "snapshot_sources.yaml"
TEMPLATE = Path(__file__).parent / "snapshot_dag.py.j2"
TABLE = """CREATE TABLE IF NOT EXISTS pipeline_configurations (
    pipeline_name TEXT NOT NULL PRIMARY KEY, source_system TEXT NOT NULL, target_table TEXT NOT NULL,
    schedule_interval TEXT, is_active INTEGER NOT NULL, config_json TEXT NOT NULL)"""
"""Fields of the Airflow field guides."""
DAG_ID = r"[a-z0-9]+_[a-z0-9]+_[a-z0-9_]*[a-z0-9]"
BRANCHES = "snapshots/"
"""What the branches begin with that a refresh may push to; no environment follows one (the schema of the values)."""
Entries = dict[str, dict[str, Any]]
"""What a source says: an entry for each DAG id."""


class RefusedError(Exception):
    """A snapshot as a whole is not to be believed."""


@dataclass(frozen=True)
class Source(ABC):
    """Where the snapshots of some DAGs come from; a domain extends it for each source that it has.

    Attributes:
        prefix: What the ids of its DAGs begin with; all others are left alone.
        owner: The team of the DAGs, unless the source names another.
        timeout_minutes: After how long a run fails, unless the source says otherwise.
        model: What an entry must be.
        builder: What makes the DAG of an entry, as `module:function`; the generated DAG files call it.
    """

    prefix: str
    owner: str
    timeout_minutes: int = 30
    model: ClassVar[type[Snapshot]]
    builder: ClassVar[str]

    @abstractmethod
    def read(self) -> Entries:
        """Ask the source."""

    def defaults(self, kind: str) -> dict[str, Any]:
        """The keys that all entries share."""
        return {"kind": kind, "owner": self.owner, "timeout_minutes": self.timeout_minutes}

    def fault(self, dag_id: str, entry: Mapping[str, Any]) -> str | None:
        """What is wrong with an entry, key by key; None if all is right."""
        if not dag_id.startswith(self.prefix):
            return f"does not begin with {self.prefix}"
        if not re.fullmatch(DAG_ID, dag_id):
            return f"{dag_id!r} is not a DAG id <domain>_<action>_<target>"
        try:
            check(entry, self.model, "")
        except ValueError as error:
            return str(error)
        return None


def _resolved(name: str) -> type[Source]:
    """The class that a configuration names as `module:class`."""
    try:
        found = pkgutil.resolve_name(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"{name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Source)):
        raise ValueError(f"{name!r} is not a class that extends Source")
    return found


class ConfiguredSource(Closed):
    """One line of `dags/config/snapshot_sources.yaml`."""

    source: Annotated[str, AfterValidator(_resolved)]
    owner: Text
    timeout_minutes: Annotated[int, Field(ge=1, le=1440)] = 30


def sources(path: Path = SOURCES) -> list[Source]:
    """All sources that are configured.

    Raises:
        ValueError: The file is wrong, or names a class that does not exist; file and key are named.
    """
    found: dict[str, Any] = read(path, dict[str, ConfiguredSource])
    return [one.source(prefix, one.owner, one.timeout_minutes) for prefix, one in found.items()]


def _is_ours(branch: str) -> str:
    """Check the branch that is pushed to.

    Raises:
        ValueError: An environment could follow it.
    """
    if not re.fullmatch(rf"{BRANCHES}[\w.-]+", branch):
        raise ValueError(f"expected {BRANCHES}<environment>, which no environment follows, found {branch!r}")
    return branch


def _is_not_ours(branch: str) -> str:
    """Check the branch that the other one starts from and is merged into.

    Raises:
        ValueError: It is one that a refresh pushes to.
    """
    if branch.startswith(BRANCHES):
        raise ValueError(f"expected the branch to merge into, found {branch!r}, which a refresh replaces")
    return branch


class Target(Closed):
    """Where a refresh pushes to, from the extra of its connection.

    Attributes:
        base: The branch that the DAGs are merged into, such as main.
        branch: The one that is pushed to. It is the refresh's own, and replaced by each one.
        subdir: The bundle's folder in the repository.
    """

    base: Annotated[Text, AfterValidator(_is_not_ours)]
    branch: Annotated[str, AfterValidator(_is_ours)]
    subdir: Text

    @classmethod
    def of(cls, conn_id: str, extra: Mapping[str, Any]) -> Self:
        """Read it from the extra of a connection, which has keys of Airflow's too.

        Raises:
            ValueError: A key is missing or wrong; connection and key are named.
        """
        ours = {key: extra[key] for key in cls.model_fields if key in extra}
        return check(ours, cls, f"extra of the connection {conn_id}")


@dataclass
class Outcome:
    """What a refresh did: DAG ids, and for those refused the key and what is wrong with it."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def from_database(hook: "DbApiHook", prefix: str, defaults: Mapping[str, Any]) -> Entries:
    """An entry for each active row of the warehouse table `pipeline_configurations`, by DAG id.

    Args:
        hook: The warehouse.
        prefix: What comes before the name of a row in its DAG's id.
        defaults: Keys that a row does not have to name.
    """
    from shared.loading.warehouse import create, query

    create(hook, [TABLE])
    columns = "pipeline_name, target_table, schedule_interval, config_json"
    sql = f"SELECT {columns} FROM pipeline_configurations WHERE is_active = 1"  # noqa: S608  names are those above
    return {
        f"{prefix}{row['pipeline_name']}": {
            **defaults,
            "table": row["target_table"],
            "schedule": row["schedule_interval"],
            **_settings(row["config_json"]),
        }
        for row in query(hook, sql)
    }


def write(bundle: Path, source: Source, entries: Entries) -> Outcome:
    """Bring the files of one source in a bundle to its entries.

    Args:
        bundle: The bundle's root, with a folder for each domain.
        source: Where the entries come from.
        entries: By DAG id.

    Raises:
        RefusedError: The source names nothing, or less than half of what is there: more likely a fault than a wish.
            Nothing is written.
    """
    prefix = source.prefix
    folder = _snapshot_file(bundle, prefix).parent
    there = {path.stem for path in folder.glob(f"{prefix}*.json")}
    if not entries or len(there & set(entries)) < len(there) / 2:
        raise RefusedError(
            f"{prefix}*: the source names {len(there & set(entries))} of the {len(there)} DAGs there are."
        )
    outcome = Outcome()
    for dag_id, entry in sorted(entries.items()):
        snapshot, dag = _snapshot_file(bundle, dag_id), _dag_file(bundle, dag_id)
        if wrong := source.fault(dag_id, entry):
            outcome.refused[dag_id] = wrong
        elif _replace(snapshot, _json(entry)) | _replace(dag, _dag_text(source.builder)):
            outcome.written.append(dag_id)
    for dag_id in sorted(there - set(entries)):
        _snapshot_file(bundle, dag_id).unlink()
        _dag_file(bundle, dag_id).unlink(missing_ok=True)
        outcome.removed.append(dag_id)
    return outcome


def publish(conn_id: str, target: Target, found: Mapping[Source, Entries]) -> dict[str, Outcome]:
    """Bring the refresh's branch to what the base would be with the entries of all sources.

    If that differs from the base, the branch is the base with one commit. If not, there is no branch.

    Args:
        conn_id: Connection of type `git` that may push to the branch.
        target: The branches, and the folder in them.
        found: Entries by source.

    Returns:
        What differs from the base, by the prefix of the source.

    Raises:
        RefusedError: As of `write`; nothing is pushed.
        git.GitCommandError: The repository refused the push.
    """
    import git
    from airflow.providers.git.hooks.git import GitHook

    hook = GitHook(git_conn_id=conn_id)
    with hook.configure_hook_env(), tempfile.TemporaryDirectory(prefix="snapshots-") as folder:
        clone = git.Repo.clone_from(str(hook.repo_url), folder, branch=target.base, depth=1, env=hook.env)
        clone.git.update_environment(**hook.env)
        outcomes = {source.prefix: write(Path(folder) / target.subdir, source, found[source]) for source in found}
        clone.git.add(A=True)
        changed = clone.is_dirty()
        if changed:
            names = [name for one in outcomes.values() for name in (*one.written, *one.removed)]
            author = ["-c", "user.name=platform_refresh_snapshots", "-c", "user.email=platform@example.com"]
            clone.git.execute(["git", *author, "commit", "-qm", f"Refresh of {', '.join(names)}"])
        _push(clone, f"refs/heads/{target.branch}", changed)
    return outcomes


def _push(clone: "git.Repo", ref: str, changed: bool) -> None:
    """Replace a branch by what is checked out, unless it says the same already; delete it if nothing was changed."""
    there = bool(clone.git.ls_remote("origin", ref))
    if changed:
        if there:
            clone.git.fetch("origin", ref, depth=1)
        # All files are compared, so what others merged since is a difference too, and the branch moves on to it.
        if not there or clone.git.diff("FETCH_HEAD", "HEAD", name_only=True):
            clone.git.push("origin", f"+HEAD:{ref}")
    elif there:
        clone.git.push("origin", f":{ref}")


def _settings(text: str) -> dict[str, Any]:
    """Further keys of a row; text that is not a JSON map becomes a key that the check refuses, and so is reported."""
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


def _snapshot_file(bundle: Path, dag_id: str) -> Path:
    return bundle / domain_of(dag_id) / "config/snapshots" / f"{dag_id}.json"


def _dag_file(bundle: Path, dag_id: str) -> Path:
    return bundle / domain_of(dag_id) / f"{dag_id}.py"


def _dag_text(builder: str) -> str:
    import jinja2

    module, function = builder.split(":")
    template = jinja2.Template(TEMPLATE.read_text(), keep_trailing_newline=True)
    text: str = template.render(module=module, function=function)
    return text
