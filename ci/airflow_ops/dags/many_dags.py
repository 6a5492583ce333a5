"""A bundle with any number of generated DAGs, to measure parsing."""

import shutil
from pathlib import Path

import yaml

from airflow_ops.paths import DAGS

TENANT = "flights_slice_ewr"
"""The tenant that is copied: a configuration and a DAG file (see `dags/shared/tenants.py`)."""


def make_bundle(folder: Path, number: int) -> list[Path]:
    """Write this repository's library and `number` tenants to a folder, each with its own configuration and DAG file.

    Returns:
        The DAG files.
    """
    for name in ("shared", "config"):
        shutil.copytree(DAGS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(DAGS / ".airflowignore", folder)
    config = yaml.safe_load((DAGS / f"config/pipelines/{TENANT}.yaml").read_text())
    text = (DAGS / f"flights/{TENANT}.py").read_text()
    (folder / "flights").mkdir()
    files = []
    for count in range(number):
        dag_id, minute = f"flights_slice_tenant{count:04}", count % 60
        tenant = {**config, "schedule": f"{minute} 6 * * *"}
        (folder / f"config/pipelines/{dag_id}.yaml").write_text(yaml.safe_dump(tenant))
        files.append(folder / f"flights/{dag_id}.py")
        files[-1].write_text(text)
    return files
