"""Files that live in object storage: those staged for one run, and the places that outlive it.

Tasks run in pods that share no disk, so a task passes files on below `object_storage_uri`: a folder on one machine, a
bucket elsewhere. Each run has a folder of its own, so two runs of one day do not overwrite each other.
"""

import hashlib
import io
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import ObjectStoragePath, Variable
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

if TYPE_CHECKING:
    import pyarrow as pa

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
    """The folder of one run's staged files."""
    return storage("staging", dag_id, safe_name(run_id))


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
