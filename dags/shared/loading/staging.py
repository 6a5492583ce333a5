"""Files that live in object storage: those staged for one run, and the places that outlive it.

Tasks run in pods that share no disk, so a task passes files on below `object_storage_uri`: a folder on one machine, a
bucket elsewhere. Each run has a folder of its own, so two runs of one day do not overwrite each other, and in it each
try of a task: one that lost its heartbeat may go on for a while beside the next.
"""

import hashlib
import io
import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import ObjectStoragePath, Variable
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

STORAGE_VARIABLE = "object_storage_uri"
LOCAL = ("", "file", "local")
"""Protocols of a folder on this machine or a volume, as fsspec names them."""
NAME_LENGTH = 120
"""Characters of a run id that are kept: a file name may have 255 bytes (POSIX NAME_MAX), a run id 250 characters."""


def storage(*parts: str) -> ObjectStoragePath:
    """A place below the base URI in the Airflow variable `object_storage_uri`.

    Raises:
        AirflowFailException: The variable is not set.
    """
    try:
        base = ObjectStoragePath(Variable.get(STORAGE_VARIABLE))
    except (AirflowRuntimeError, KeyError) as error:
        raise AirflowFailException(
            f"the Airflow variable {STORAGE_VARIABLE} is not set: set it to a base URI, "
            "such as s3://connection@bucket/prefix or file:///folder."
        ) from error
    return base.joinpath(*parts)


def run_folder(dag_id: str, run_id: str) -> ObjectStoragePath:
    """The folder of one run's staged files: what tidies up after the run removes it."""
    return storage("staging", dag_id, safe_name(run_id))


@contextmanager
def try_folder(context: Mapping[str, Any], *parts: str) -> Iterator[ObjectStoragePath]:
    """A folder for what one try of a task stages, for a `with` statement.

    It is removed where the work in it fails, because a teardown runs only after a setup that succeeded. No other try
    has it, so one that ends late takes nothing away from the next.

    Args:
        context: The task's context.
        *parts: Folders between that of the run and this one, for what is removed before the run ends.
    """
    ti, run = context["ti"], run_folder(context["dag"].dag_id, context["run_id"])
    mapped = [str(ti.map_index)] if ti.map_index is not None and ti.map_index >= 0 else []
    folder = run.joinpath(*parts, safe_name(ti.task_id), *mapped, f"try-{ti.try_number}")
    try:
        yield folder
    except BaseException:
        _give_up(folder, run)
        raise


def _give_up(folder: ObjectStoragePath, run: ObjectStoragePath) -> None:
    """Remove a try's folder, and those above it that are empty then; what cannot be removed is logged."""
    try:
        remove(folder)
        above = Path(folder.path).parents if folder.protocol in LOCAL else ()  # a bucket has no empty folders
        for parent in above:
            if parent.is_relative_to(run.path):
                with suppress(OSError):  # it is gone already, or others have files in it
                    parent.rmdir()
    except Exception as error:
        log.warning("%s is not removed: %s", folder, error)


def safe_name(run_id: str) -> str:
    """A run id as one path segment: no separators, and different for different ids."""
    kept = re.sub(r"[^A-Za-z0-9._-]", "_", run_id)[:NAME_LENGTH].lstrip(".")
    return kept if kept == run_id else f"{kept}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def remove(folder: ObjectStoragePath) -> None:
    """Delete a folder with everything in it; it may be gone already."""
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)


def write_parquet(table: "pa.Table", path: ObjectStoragePath) -> None:
    """Write one Parquet file, making the folder where the storage has folders; readers see it whole or not at all."""
    import pyarrow.parquet as pq

    # Not into the open file: closing one after an error puts the half of it in its place, in a bucket too.
    whole = io.BytesIO()
    pq.write_table(table, whole)
    _put(whole.getvalue(), path)


def read_parquet(path: ObjectStoragePath) -> "pa.Table":
    """Read one Parquet file into memory."""
    import pyarrow.parquet as pq

    with path.open("rb") as file:  # type: ignore[no-untyped-call]
        return pq.read_table(file)


def write_text(text: str, path: ObjectStoragePath) -> None:
    """Write one UTF-8 file, making the folder where the storage has folders; readers see it whole or not at all."""
    _put(text.encode(), path)


def _put(content: bytes, path: ObjectStoragePath) -> None:
    """Put a whole file in place of what is there. A bucket does that by itself; in a folder it takes a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.protocol not in LOCAL:
        path.fs.pipe_file(path.path, content)
        return
    # In the same folder, because only there a rename is one step; each writer has a draft of its own.
    draft = Path(path.path).with_name(f".{uuid.uuid4().hex}.draft")
    try:
        draft.write_bytes(content)
        draft.replace(path.path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
