"""Copy the DAGs of a tag to object storage, from where S3DagBundle reads them."""

import re
from pathlib import Path
from typing import Any

import fsspec
from botocore.exceptions import BotoCoreError

from airflow_ops.commits import checkout, git
from airflow_ops.console import counted, fail, out, styled
from airflow_ops.environments.environment import Environment

URI = re.compile(r"s3://(?:[\w.-]+@)?(?P<folder>[^@]+)")


def upload(name: str, trial: list[str] | None = None) -> None:
    """Copy the DAGs of an environment's tag to its folder in object storage.

    Args:
        name: The environment.
        trial: Further overlays.

    Raises:
        ProblemError: Its DAGs are not in object storage, its ref is no tag, or the folder has other files than the tag.
    """
    bundle = Environment.load(name, trial).values["global"]["dagBundle"]
    tag = _tag(name, bundle)
    folder = f"{_folder(bundle)}/{tag}"
    with checkout(f"refs/tags/{tag}") as root:
        top = root / bundle["subdir"]
        files = {str(path.relative_to(top)): path for path in sorted(top.rglob("*")) if path.is_file()}
        if not files:
            raise fail(f"at {tag} there is no file in {bundle['subdir']!r}.", "Correct global.dagBundle.subdir.", 2)
        storage = fsspec.filesystem("s3", use_listings_cache=False)
        try:
            missing = _missing(storage, folder, files)
            for path in missing:
                storage.pipe_file(f"{folder}/{path}", files[path].read_bytes())
        except (OSError, BotoCoreError) as error:
            raise fail(
                f"s3://{folder} cannot be read or written: {error}.",
                "Check the bucket and your credentials; what was copied is not sent again.",
            ) from error
    kept = len(files) - len(missing)
    out.print(styled("ok", "green"), f"{counted(len(missing), 'file')} copied to s3://{folder}, {kept} were there")


def _tag(name: str, bundle: dict[str, Any]) -> str:
    if bundle["kind"] != "s3":
        raise fail(
            f"the DAGs of {name} come from {bundle['kind']}, not from object storage.",
            "Set global.dagBundle.kind: s3 and global.dagBundle.uri, or publish them as docs/operating.md says.",
            2,
        )
    tag = str(bundle["trackingRef"])
    if tag not in git("tag", "--list").split():
        raise fail(
            f"global.dagBundle.trackingRef of {name} is {tag!r}, which is no tag of this checkout.",
            "Name a tag, because its folder must not change; `git fetch --tags` brings new ones.",
            2,
        )
    return tag


def _folder(bundle: dict[str, Any]) -> str:
    """Bucket and folder in which the folders of all tags are."""
    found = URI.fullmatch(bundle["uri"])
    if found is None:
        raise fail(f"global.dagBundle.uri is {bundle['uri']!r}.", "Write s3://[CONNECTION@]BUCKET/FOLDER.", 2)
    return found["folder"].rstrip("/")


def _missing(storage: Any, folder: str, files: dict[str, Path]) -> list[str]:
    """The files that are not in the folder yet.

    Raises:
        ProblemError: One is there with another content, or one that the tag does not have.
    """
    there = [path.removeprefix(f"{folder}/") for path in storage.find(folder)]
    other = [
        path for path in there if path not in files or storage.cat_file(f"{folder}/{path}") != files[path].read_bytes()
    ]
    if other:
        raise fail(
            f"s3://{folder} has {counted(len(other), 'file')} that the tag has not, or not so, "
            f"the first of them {other[0]}.",
            "A folder is never changed once DAGs may run from it. Make another version: airflow-ops release.",
            2,
        )
    return [path for path in files if path not in there]
