"""Where the files of a run lie."""

import json
from collections.abc import Iterator
from pathlib import Path

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
        monkeypatch.setenv("AIRFLOW_CONN_OBJECTS", json.dumps({"conn_type": "aws", **login, "extra": extra}))
        yield "s3://objects@lake/prefix"


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_what_is_staged_can_be_read_and_removed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from airflow.sdk import ObjectStoragePath

    from shared.loading.staging import read_parquet, remove, run_folder, write_parquet, write_text

    base = tmp_path.as_uri() if kind == "folder" else request.getfixturevalue("bucket")
    monkeypatch.setenv("AIRFLOW_VAR_OBJECT_STORAGE_URI", base)
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
