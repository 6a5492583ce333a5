"""DAGs from a database and an API: what is checked, what becomes a commit, and what a mistake costs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import git
import pytest
from airflow.models.dagrun import DagRun

from airflow_ops.dags.bench import tenant_bundle
from airflow_ops.paths import DAGS
from flights.library.exports import Exports
from shared.generating import snapshots
from shared.generating.probes import Probes
from shared.generating.snapshots import TABLE, Entries, RefusedError, Target, publish, sources, write
from shared.loading.warehouse import create, execute, transaction, warehouse_hook

EXPORT = "flights_export_"
EXPORTS = Exports(EXPORT, "flights")
PROBES = Probes("platform_probe_", "platform")
BRANCH = "snapshots/test"
TARGET = Target(base="main", branch=BRANCH, subdir="dags")


def export(table: str = "airlines", **changes: Any) -> dict[str, Any]:
    return {**EXPORTS.defaults("export"), "table": table, "schedule": "@daily", **changes}


def configure(*rows: tuple[str, str, str | None, int, str]) -> None:
    """Rows of pipeline_configurations: name, table, schedule, whether it is active, further keys."""
    hook = warehouse_hook()
    create(hook, [TABLE])
    with transaction(hook) as cursor:
        execute(hook, cursor, "DELETE FROM pipeline_configurations")
        for name, table, schedule, active, settings in rows:
            values = [name, "warehouse", table, schedule, active, settings]
            execute(hook, cursor, "INSERT INTO pipeline_configurations VALUES (?, ?, ?, ?, ?, ?)", values)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of this repository's bundle without generated DAGs."""
    shutil.copytree(DAGS, tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__", "snapshots", "*_export_*"))
    for file in (tmp_path / "dags/platform").glob("platform_probe_*"):
        file.unlink()
    return tmp_path / "dags"


@pytest.fixture
def repository(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> git.Repo:
    """The repository that the connection snapshots_git names; the bundle tracks its branch main."""
    made = git.Repo.init(tmp_path / "work", initial_branch="main")
    shutil.copytree(bundle, tmp_path / "work/dags")
    made.git.add(A=True)
    made.git.execute(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "Start"])
    bare = made.clone(tmp_path / "origin.git", bare=True)
    connect(monkeypatch, tmp_path / "origin.git", TARGET.model_dump())
    return bare


def connect(monkeypatch: pytest.MonkeyPatch, origin: Path, extra: dict[str, str]) -> None:
    """Make the connection snapshots_git."""
    connection = {"conn_type": "git", "host": origin.as_uri(), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SNAPSHOTS_GIT", json.dumps(connection))


def branches(repository: git.Repo) -> dict[str, str]:
    """The commit of each branch."""
    return {head.name: head.commit.hexsha for head in repository.heads}


def held(repository: git.Repo, branch: str = BRANCH) -> set[str]:
    """The generated exports in the newest commit of a branch."""
    names = repository.git.ls_tree("-r", "--name-only", branch).splitlines()
    return {Path(name).stem for name in names if name.startswith("dags/flights/config/snapshots/flights_export")}


def test_what_the_repository_holds_is_what_a_refresh_writes(tmp_path: Path) -> None:
    snapshots_there = list(DAGS.glob("*/config/snapshots/*.json"))
    assert {path.stem for path in snapshots_there} == {
        "flights_export_airlines",
        "flights_export_airports",
        "platform_probe_health",
        "platform_probe_version",
    }
    for source in sources():
        held_here = {path.stem: path for path in snapshots_there if path.stem.startswith(source.prefix)}
        entries = {dag_id: json.loads(path.read_text()) for dag_id, path in held_here.items()}
        outcome = write(tmp_path, source, entries)
        assert (outcome.written, outcome.refused) == (sorted(held_here), {})
        for path in held_here.values():
            for made in (path.relative_to(DAGS), Path(path.parents[2].name, f"{path.stem}.py")):
                assert (tmp_path / made).read_text() == (DAGS / made).read_text()


def test_a_wrong_entry_keeps_its_last_good_files_and_stops_no_other(tmp_path: Path) -> None:
    good = {f"{EXPORT}a": export(), f"{EXPORT}b": export()}
    assert write(tmp_path, EXPORTS, good).written == [f"{EXPORT}a", f"{EXPORT}b"]

    changed = {f"{EXPORT}a": export("boats"), f"{EXPORT}b": export("planes")}
    outcome = write(tmp_path, EXPORTS, changed)

    assert outcome.refused == {f"{EXPORT}a": "table: expected 'airlines', 'airports' or 'planes', found 'boats'"}
    read = {
        dag_id: json.loads((tmp_path / f"flights/config/snapshots/{dag_id}.json").read_text())["table"]
        for dag_id in good
    }
    assert read == {f"{EXPORT}a": "airlines", f"{EXPORT}b": "planes"}


@pytest.mark.parametrize("entries", [{}, {f"{EXPORT}0": export()}])
def test_a_source_that_lost_most_of_its_entries_changes_nothing(tmp_path: Path, entries: dict[str, Any]) -> None:
    write(tmp_path, EXPORTS, {f"{EXPORT}{number}": export() for number in range(4)})
    with pytest.raises(RefusedError, match="of the 4 DAGs there are"):
        write(tmp_path, EXPORTS, entries)
    assert len(list((tmp_path / "flights/config/snapshots").iterdir())) == 4


@pytest.fixture
def answering(rest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API answers the source that asks it."""
    from contextlib import nullcontext

    from shared.watching import platform_api

    monkeypatch.setattr(platform_api, "client", lambda: nullcontext(rest))


@pytest.mark.usefixtures("answering")
def test_the_dag_commits_what_the_database_says_to_a_branch_that_nobody_follows(
    repository: git.Repo, run_dag: Callable[..., DagRun], capfd: pytest.CaptureFixture[str]
) -> None:
    followed = repository.commit("main").hexsha
    configure(
        ("good", "airlines", "@daily", 1, "{}"),
        ("idle", "airports", None, 0, "{}"),
        ("broken", "planes", "at noon", 1, "{}"),
        ("text", "planes", None, 1, "no json"),
    )

    run = run_dag("platform_refresh_snapshots")

    assert run.state == "failed", "what is wrong is reported"
    assert held(repository) == {f"{EXPORT}good"}
    files = repository.git.ls_tree("-r", "--name-only", BRANCH)
    assert "dags/flights/flights_export_good.py" in files
    assert {"dags/platform/platform_probe_health.py", "dags/platform/platform_probe_version.py"} <= set(files.split())
    assert repository.commit("main").hexsha == followed
    assert repository.commit(BRANCH).parents[0].hexsha == followed
    assert f"waiting in branch {BRANCH} to be merged into main" in capfd.readouterr().out

    configure(("good", "airlines", "@daily", 1, "{}"))
    before = branches(repository)
    assert run_dag("platform_refresh_snapshots").state == "success"
    assert branches(repository) == before, "nothing changed: no other commit"


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"branch": "main"}, "branch: expected snapshots/<environment>, which no environment follows, found 'main'"),
        ({"branch": "snapshots/"}, "branch: expected snapshots/<environment>"),
        ({"branch": "snapshots/a:main"}, "branch: expected snapshots/<environment>"),
        ({"base": "snapshots/test"}, "base: expected the branch to merge into, found 'snapshots/test'"),
        ({"base": None}, "base: missing"),
    ],
)
def test_a_connection_that_would_push_to_what_is_followed_is_refused(
    repository: git.Repo,
    run_dag: Callable[..., DagRun],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    extra: dict[str, Any],
    complaint: str,
) -> None:
    wanted = {key: value for key, value in (TARGET.model_dump() | extra).items() if value}
    connect(monkeypatch, tmp_path / "origin.git", wanted)
    configure(("good", "airlines", None, 1, "{}"))
    before = branches(repository)
    assert run_dag("platform_refresh_snapshots").state == "failed"
    assert f"extra of the connection snapshots_git: {complaint}" in capfd.readouterr().out
    assert branches(repository) == before


@pytest.mark.usefixtures("answering")
def test_without_a_repository_it_only_checks(run_dag: Callable[..., DagRun], capfd: pytest.CaptureFixture[str]) -> None:
    configure(("good", "airlines", None, 1, "{}"))
    assert run_dag("platform_refresh_snapshots").state == "success"
    assert "checked, not published: the connection snapshots_git does not exist" in capfd.readouterr().out


def named(dag_id: str, table: str = "airlines") -> dict[snapshots.Source, Entries]:
    """A source that has one DAG."""
    return {Exports(dag_id, "flights"): {dag_id: export(table)}}


def merge(repository: git.Repo, folder: Path, *files: str) -> None:
    """Commit files to main, as a person does."""
    clone = repository.clone(folder, branch="main")
    for name in files:
        (folder / name).write_text("")
    clone.git.add(A=True)
    clone.git.execute(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "Other work"])
    clone.git.push("origin", "HEAD:main")


def test_the_branch_always_stands_on_the_newest_main(repository: git.Repo, tmp_path: Path) -> None:
    publish("snapshots_git", TARGET, named("flights_export_mine"))
    merge(repository, tmp_path / "person", "dags/flights/other.py")
    publish("snapshots_git", TARGET, named("flights_export_mine"))
    assert repository.commit(BRANCH).parents[0] == repository.commit("main")
    assert held(repository) == {f"{EXPORT}mine"}


def test_a_source_that_changes_again_replaces_what_waits(repository: git.Repo) -> None:
    publish("snapshots_git", TARGET, named("flights_export_mine", "planes"))
    publish("snapshots_git", TARGET, named("flights_export_mine", "airports"))
    waiting = repository.git.show(f"{BRANCH}:dags/flights/config/snapshots/{EXPORT}mine.json")
    assert json.loads(waiting)["table"] == "airports"
    assert len(list(repository.iter_commits(f"main..{BRANCH}"))) == 1


def test_a_branch_with_nothing_left_to_merge_is_deleted(repository: git.Repo) -> None:
    publish("snapshots_git", TARGET, named("flights_export_mine"))
    repository.git.update_ref("refs/heads/main", BRANCH)
    publish("snapshots_git", TARGET, named("flights_export_mine"))
    assert set(branches(repository)) == {"main"}
    publish("snapshots_git", TARGET, named("flights_export_mine"))
    assert held(repository, "main") == {f"{EXPORT}mine"}


def test_a_broken_snapshot_is_an_import_error_of_its_own_dag(bundle: Path) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag

    write(bundle, EXPORTS, {f"{EXPORT}good": export(), f"{EXPORT}bad": export()})
    broken = bundle / "flights/config/snapshots/flights_export_bad.json"
    broken.write_text(json.dumps(export(colour="red")))
    for file in (bundle / "flights").glob("*.py"):
        if "_export_" not in file.name:
            file.unlink()
    bag = BundleDagBag(dag_folder=bundle / "flights", bundle_path=bundle, bundle_name="test")

    assert set(bag.dags) == {f"{EXPORT}good"}
    (error,) = bag.import_errors.values()
    assert "flights_export_bad.json: colour: unknown key (known here: kind, owner, schedule, table, " in error


def test_the_sources_give_what_the_schema_takes(rest: Any) -> None:
    configure(("airlines", "airlines", None, 1, '{"timeout_minutes": 7}'))
    exports = EXPORTS.read()
    assert exports[f"{EXPORT}airlines"]["timeout_minutes"] == 7
    found = PROBES.entries(rest)
    assert {"platform_probe_health", "platform_probe_version"} <= set(found)
    assert {dag_id: PROBES.fault(dag_id, entry) for dag_id, entry in found.items()} == dict.fromkeys(found)
    assert {dag_id: EXPORTS.fault(dag_id, entry) for dag_id, entry in exports.items()} == dict.fromkeys(exports)


def test_as_many_dags_as_a_benchmark_wants(tmp_path: Path) -> None:
    """Each is a tenant of its own."""
    from airflow.dag_processing.dagbag import BundleDagBag

    bundle = tenant_bundle(tmp_path, 3)
    bag = BundleDagBag(dag_folder=bundle / "flights", bundle_path=bundle, bundle_name="many")
    files = {file.stem for file in bundle.glob("flights/*.py")}
    assert set(bag.dags) == files == {f"flights_slice_t{n:04}" for n in range(3)}
    assert len({repr(dag.timetable) for dag in bag.dags.values()}) == 3
