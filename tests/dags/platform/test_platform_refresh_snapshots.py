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
from shared.loading.warehouse import create, execute, transaction, warehouse_hook
from shared.patterns import snapshots
from shared.patterns.snapshots import TABLE, RefusedError, Source, from_api, from_database, publish, write

EXPORT = "flights_export_"


def export(table: str = "airlines", **changes: Any) -> dict[str, Any]:
    entry = {"owner": "flights", "timeout_minutes": 30, "kind": "export", "table": table, "schedule": "@daily"}
    return {**entry, **changes}


def source(entries: dict[str, dict[str, Any]], prefix: str = EXPORT) -> Source:
    """Entries as platform_refresh_snapshots has them from its sources."""
    return Source(prefix, entries, tables="flights.library.tables" if prefix.startswith("flights_") else "")


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
    """The repository that the connection snapshots_git names."""
    made = git.Repo.init(tmp_path / "work", initial_branch="main")
    shutil.copytree(bundle, tmp_path / "work/dags")
    made.git.add(A=True)
    made.git.execute(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "Start"])
    bare = made.clone(tmp_path / "origin.git", bare=True)
    connection = {"conn_type": "git", "host": (tmp_path / "origin.git").as_uri()}
    extra = {"branch": "main", "subdir": "dags"}
    monkeypatch.setenv("AIRFLOW_CONN_SNAPSHOTS_GIT", json.dumps({**connection, "extra": extra}))
    return bare


def held(repository: git.Repo) -> set[str]:
    """The generated exports in the newest commit."""
    names = repository.git.ls_tree("-r", "--name-only", "main").splitlines()
    return {Path(name).stem for name in names if name.startswith("dags/config/snapshots/flights_export")}


def test_what_the_repository_holds_is_what_a_refresh_writes(tmp_path: Path) -> None:
    for path in (DAGS / "config/snapshots").glob("*.json"):
        prefix = "_".join(path.stem.split("_")[:2])
        assert write(tmp_path, source({path.stem: json.loads(path.read_text())}, prefix)).refused == {}
        made = tmp_path / path.stem.split("_")[0] / f"{path.stem}.py"
        assert made.read_text() == (DAGS / made.relative_to(tmp_path)).read_text()
        shutil.rmtree(tmp_path / "config")


def test_a_wrong_entry_keeps_its_last_good_files_and_stops_no_other(tmp_path: Path) -> None:
    good = {f"{EXPORT}a": export(), f"{EXPORT}b": export()}
    assert write(tmp_path, source(good)).written == [f"{EXPORT}a", f"{EXPORT}b"]

    changed = {f"{EXPORT}a": export("boats"), f"{EXPORT}b": export("planes")}
    outcome = write(tmp_path, source(changed))

    assert list(outcome.refused) == [f"{EXPORT}a"]
    complaint = "table: there is no table 'boats': use one of "
    assert outcome.refused[f"{EXPORT}a"].startswith(complaint)
    assert "airlines" in outcome.refused[f"{EXPORT}a"].removeprefix(complaint)
    read = {dag_id: json.loads((tmp_path / f"config/snapshots/{dag_id}.json").read_text())["table"] for dag_id in good}
    assert read == {f"{EXPORT}a": "airlines", f"{EXPORT}b": "planes"}


@pytest.mark.parametrize("entries", [{}, {f"{EXPORT}0": export()}])
def test_a_source_that_lost_most_of_its_entries_changes_nothing(tmp_path: Path, entries: dict[str, Any]) -> None:
    write(tmp_path, source({f"{EXPORT}{number}": export() for number in range(4)}))
    with pytest.raises(RefusedError, match="of the 4 DAGs there are"):
        write(tmp_path, source(entries))
    assert len(list((tmp_path / "config/snapshots").iterdir())) == 4


def test_the_dag_commits_what_the_database_says(
    repository: git.Repo, rest: Any, run_dag: Callable[..., DagRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from shared.watching import platform_api

    monkeypatch.setattr(platform_api, "client", lambda: nullcontext(rest))
    configure(
        ("good", "airlines", "@daily", 1, "{}"),
        ("idle", "airports", None, 0, "{}"),
        ("broken", "planes", "at noon", 1, "{}"),
        ("text", "planes", None, 1, "no json"),
    )

    run = run_dag("platform_refresh_snapshots")

    assert run.state == "failed", "what is wrong is told"
    assert held(repository) == {f"{EXPORT}good"}
    files = repository.git.ls_tree("-r", "--name-only", "main")
    assert "dags/flights/flights_export_good.py" in files
    assert {"dags/platform/platform_probe_health.py", "dags/platform/platform_probe_version.py"} <= set(files.split())

    configure(("good", "airlines", "@daily", 1, "{}"))
    before = repository.commit("main").hexsha
    assert run_dag("platform_refresh_snapshots").state == "success"
    assert repository.commit("main").hexsha == before, "nothing changed: no commit"


def test_without_a_repository_it_only_checks(
    rest: Any, run_dag: Callable[..., DagRun], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from contextlib import nullcontext

    from shared.watching import platform_api

    monkeypatch.setattr(platform_api, "client", lambda: nullcontext(rest))
    configure(("good", "airlines", None, 1, "{}"))
    assert run_dag("platform_refresh_snapshots").state == "success"
    assert "checked, not published: the connection snapshots_git does not exist" in capfd.readouterr().out


def test_a_push_that_somebody_outran_is_made_again(repository: git.Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one changed the same file's folder in between: both changes are there afterwards."""
    original, outran = snapshots.write, []

    def slow(*arguments: Any) -> Any:
        if not outran:
            outran.append(True)
            other = source({"flights_export_other": export("planes")}, "flights_export_o")
            publish("snapshots_git", "main", "dags", [other])
        return original(*arguments)

    monkeypatch.setattr(snapshots, "write", slow)
    publish("snapshots_git", "main", "dags", [source({"flights_export_mine": export()}, "flights_export_m")])
    assert held(repository) == {f"{EXPORT}mine", f"{EXPORT}other"}


def test_a_broken_snapshot_is_an_import_error_of_its_own_dag(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag

    from shared.patterns import snapshot_dags

    write(bundle, source({f"{EXPORT}good": export(), f"{EXPORT}bad": export()}))
    broken = bundle / "config/snapshots/flights_export_bad.json"
    broken.write_text(json.dumps(export(colour="red")))
    monkeypatch.setattr(snapshot_dags, "SNAPSHOTS", bundle / "config/snapshots")
    for file in (bundle / "flights").glob("*.py"):
        if "_export_" not in file.name:
            file.unlink()
    bag = BundleDagBag(dag_folder=bundle / "flights", bundle_path=bundle, bundle_name="test")

    assert set(bag.dags) == {f"{EXPORT}good"}
    (error,) = bag.import_errors.values()
    assert "flights_export_bad.json: colour: unknown key" in error


def test_the_sources_give_what_the_schema_takes(rest: Any) -> None:
    configure(("airlines", "airlines", None, 1, '{"timeout_minutes": 7}'))
    assert from_database(warehouse_hook(), EXPORT, "flights")[f"{EXPORT}airlines"]["timeout_minutes"] == 7
    found = from_api(rest, "platform_probe_", "platform")
    assert {"platform_probe_health", "platform_probe_version"} <= set(found)
    assert {dag_id: snapshots.fault(dag_id, entry, "") for dag_id, entry in found.items()} == dict.fromkeys(found)


def test_as_many_dags_as_a_benchmark_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a tenant of its own."""
    from airflow.dag_processing.dagbag import BundleDagBag

    from flights.library import tenants

    made = tenant_bundle(tmp_path, 3)
    monkeypatch.setattr(tenants, "PIPELINES", made / "flights/config/pipelines")
    bag = BundleDagBag(dag_folder=made / "flights", bundle_path=made, bundle_name="many")
    assert set(bag.dags) == {f"flights_slice_t{n:04}" for n in range(3)}
    assert len({repr(dag.timetable) for dag in bag.dags.values()}) == 3
