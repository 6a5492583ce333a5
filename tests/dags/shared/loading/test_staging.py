"""Where the files of a run lie."""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import object_storage


def test_run_ids_become_one_path_segment_and_stay_apart() -> None:
    from shared.loading.staging import safe_name

    ids = [
        "manual__2013-01-01T00:00:00+00:00",
        "manual__2013-01-01T00_00_00_00_00",
        "../../etc",
        "..",
        "a/b",
        "x" * 250,
    ]
    names = [safe_name(run_id) for run_id in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert 0 < len(name) < 150
    assert safe_name("plain_run.1") == "plain_run.1"


def test_without_the_variable_the_message_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from shared.loading.staging import storage

    monkeypatch.delenv("AIRFLOW_VAR_OBJECT_STORAGE_URI")
    with pytest.raises(AirflowFailException, match="variable object_storage_uri is not set"):
        storage("x")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket, and the connection that leads to it."""
    with object_storage.bucket("lake") as client:
        login = {"login": object_storage.KEY, "password": object_storage.KEY}
        extra = {"endpoint_url": client.meta.endpoint_url, "region_name": object_storage.REGION}
        # Airflow keeps the filesystem of a connection's id, and each bucket is at another port.
        name = f"objects_{client.meta.endpoint_url.rpartition(':')[2]}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "aws", **login, "extra": extra}))
        yield f"s3://{name}@lake/prefix"


@pytest.fixture(params=["folder", "bucket"])
def base(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object storage of either kind."""
    uri = tmp_path.as_uri() if request.param == "folder" else request.getfixturevalue("bucket")
    monkeypatch.setenv("AIRFLOW_VAR_OBJECT_STORAGE_URI", uri)


@pytest.mark.usefixtures("base")
def test_what_is_staged_can_be_read_and_removed() -> None:
    import pyarrow as pa
    from airflow.sdk import ObjectStoragePath

    from shared.loading.staging import read_parquet, remove, run_folder, write_parquet, write_text

    mine, other = run_folder("dag", "manual__1:00"), run_folder("dag", "manual__2:00")
    table = pa.table({"a": [1, 2], "b": [["x"], ["y", "z"]]})
    write_parquet(table, mine / "raw" / "t.parquet")
    write_text("kept ✓", other / "kept.txt")

    handed_on = str(mine / "raw" / "t.parquet")  # what the next task is given
    assert read_parquet(ObjectStoragePath(handed_on)) == table
    remove(mine)
    assert not mine.exists()
    assert (other / "kept.txt").read_text() == "kept ✓"
    remove(mine)  # removed already: nothing to do


def context_of(try_number: int, task_id: str = "group.extract", map_index: int = -1) -> dict[str, Any]:
    """What a try of a task knows of itself."""
    ti = SimpleNamespace(task_id=task_id, map_index=map_index, try_number=try_number)
    return {"dag": SimpleNamespace(dag_id="dag"), "run_id": "manual__1:00", "ti": ti}


@pytest.mark.usefixtures("base")
def test_a_try_that_ends_late_removes_its_own_files_and_no_others() -> None:
    from shared.loading.staging import run_folder, try_folder, write_text

    kept = []
    with pytest.raises(TimeoutError), try_folder(context_of(1), "group") as first:  # noqa: PT012  both are at work
        write_text("first", first / "raw" / "rows")
        for other in (context_of(2), context_of(1, map_index=0), context_of(1, "group.transform")):
            with try_folder(other, "group") as folder:
                write_text("other", folder / "raw" / "rows")
                kept.append(folder / "raw" / "rows")
        raise TimeoutError("no heartbeat for five minutes")
    assert not first.exists()
    assert [path.read_text() for path in kept] == ["other"] * 3
    assert all(str(path).startswith(str(run_folder("dag", "manual__1:00") / "group") + "/") for path in kept)


@pytest.mark.usefixtures("base")
def test_a_try_that_fails_alone_leaves_nothing_of_the_run() -> None:
    from shared.loading.staging import run_folder, storage, try_folder, write_text

    write_text("another run", storage("staging", "dag", "other", "rows"))
    for stages in (True, False):
        with pytest.raises(SystemExit), try_folder(context_of(1), "group") as folder:  # noqa: PT012  what a try does
            if stages:
                write_text("rows", folder / "rows")
            raise SystemExit(143)
        assert not run_folder("dag", "manual__1:00").exists()
    assert storage("staging", "dag", "other", "rows").read_text() == "another run"


def test_files_that_cannot_be_removed_do_not_hide_why_the_try_failed(
    storage: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from shared.loading import staging

    def refuse(*_: Any) -> None:
        raise PermissionError("no right to delete")

    monkeypatch.setattr(staging, "remove", refuse)
    with pytest.raises(TimeoutError), staging.try_folder(context_of(1)):
        raise TimeoutError("the source does not answer")
    assert "not removed: no right to delete" in caplog.text


@pytest.mark.usefixtures("base")
def test_a_write_that_fails_half_way_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from shared.loading.staging import read_parquet, storage, write_parquet

    def write_half(_: Any, file: Any) -> None:
        file.write(b"PAR1 half of it")
        raise TimeoutError("the time limit of the task")

    path, old = storage("exports", "t.parquet"), pa.table({"a": [1]})
    write_parquet(old, path)
    monkeypatch.setattr(pq, "write_table", write_half)
    for target in (path, storage("exports", "new.parquet")):
        with pytest.raises(TimeoutError):
            write_parquet(pa.table({"a": [2]}), target)
    assert read_parquet(path) == old
    assert [found.name for found in path.parent.iterdir()] == ["t.parquet"]


def test_a_disk_that_is_full_leaves_what_was_there_and_no_draft(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.loading import staging

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = staging.storage("page.html")
    staging.write_text("old", path)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        staging.write_text("new", path)
    assert path.read_text() == "old"
    assert [found.name for found in storage.iterdir()] == ["page.html"]


FORK = multiprocessing.get_context("fork")
"""A real process that need not import Airflow again."""


def write_and_die() -> None:
    """Write a page, and be killed before it is in its place."""
    from shared.loading import staging

    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    staging.write_text("new", staging.storage("pages", "page.html"))


def test_a_writer_that_is_killed_leaves_what_was_there(storage: Path) -> None:
    from shared.loading import staging

    path = staging.storage("pages", "page.html")
    staging.write_text("old", path)
    victim = FORK.Process(target=write_and_die)
    victim.start()
    victim.join(timeout=60)
    assert victim.exitcode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert [found.name for found in (storage / "pages").glob("[!.]*")] == ["page.html"], "a draft looks like a page"


def while_others_write(write: Callable[[int], None], read: Callable[[], Any]) -> set[Any]:
    """What is read while two writers write a hundred times each."""
    write(0)
    writers = [threading.Thread(target=lambda n=n: [write(n) for _ in range(100)]) for n in (1, 2)]
    for writer in writers:
        writer.start()
    found = set()
    while any(writer.is_alive() for writer in writers):
        found.add(read())
    return found


def test_who_reads_while_others_write_sees_a_whole_file(storage: Path) -> None:
    import pyarrow as pa

    from shared.loading.staging import read_parquet, write_parquet, write_text
    from shared.loading.staging import storage as place

    text, rows, size = place("pages", "page.html"), place("exports", "t.parquet"), 500_000
    seen = while_others_write(
        lambda n: write_text(str(n) * size, text), lambda: (len(t := text.read_text()), len(set(t)))
    )
    assert seen == {(size, 1)}
    seen = while_others_write(
        lambda n: write_parquet(pa.table({"a": [n] * size}), rows), lambda: read_parquet(rows).num_rows
    )
    assert seen == {size}
    assert sorted(path.name for path in storage.rglob("*") if path.is_file()) == ["page.html", "t.parquet"]


def test_a_file_can_be_read_by_whom_the_umask_allows(storage: Path) -> None:
    """Tasks of other pods may run as another user: a draft made by `tempfile` would be its writer's alone."""
    from shared.loading import staging

    staging.write_text("x", staging.storage("page.html"))
    (storage / "plain").write_text("x")
    assert (storage / "page.html").stat().st_mode == (storage / "plain").stat().st_mode
