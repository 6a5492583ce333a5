"""Paths in the checkout."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VALUES = ROOT / "values"
CHARTS = ROOT / "charts"
DAGS = ROOT / "dags"
PLUGINS = ROOT / "plugins"
"""Airflow's plugins: the triggers and callbacks, which are not part of the DAG bundle."""
STATE = Path(os.environ.get("AIRFLOW_OPS_STATE", ROOT / ".local"))
"""All that the local Airflow keeps; git-ignored, safe to delete while it is down. Tests take another folder."""


def dag_ids() -> list[str]:
    """The DAGs of the bundle by the names of their files, which are their ids: one DAG a file of a domain's folder."""
    return sorted(path.stem for path in DAGS.glob("*/*.py") if path.parent.name not in ("shared", "config"))
