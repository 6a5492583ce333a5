"""Files that live in object storage: those staged for one run, and the places that outlive it.

Tasks run in pods that share no disk, so a task passes files on below `object_storage_uri`: a folder on one machine, a
bucket elsewhere. Each run has a folder of its own, so two runs of one day do not overwrite each other.
"""

import hashlib
import re
from typing import TYPE_CHECKING

from airflow.sdk import ObjectStoragePath, Variable
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

if TYPE_CHECKING:
    import pyarrow as pa

STORAGE_VARIABLE = "object_storage_uri"
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
    """Write one Parquet file, making the folder where the storage has folders."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # type: ignore[no-untyped-call]
        pq.write_table(table, file)


def read_parquet(path: ObjectStoragePath) -> "pa.Table":
    """Read one Parquet file into memory."""
    import pyarrow.parquet as pq

    with path.open("rb") as file:  # type: ignore[no-untyped-call]
        return pq.read_table(file)


def write_text(text: str, path: ObjectStoragePath) -> None:
    """Write one UTF-8 file, making the folder where the storage has folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # type: ignore[no-untyped-call]
        file.write(text.encode())
