"""The pools of the platform, as `dags/config/pools.yaml` has them."""

from pathlib import Path
from typing import Any

import yaml

from airflow_ops.console import fail
from airflow_ops.repository import CHARTS, DAGS

POOLS = DAGS / "config/pools.yaml"
SCRIPT = CHARTS / "platform/files/scripts/pools.py"
"""Makes Airflow's pools those on its standard input; the migration Job runs it too."""
KEYS = {"slots": int, "description": str, "include_deferred": bool}


def load_pools(path: Path = POOLS) -> dict[str, dict[str, Any]]:
    """Pools by name: `slots` (-1 is without limit), `description`, and perhaps `include_deferred`.

    Raises:
        ProblemError: A key is unknown, missing or mistyped; it is named.
    """
    pools: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text()) or {}
    for name, pool in pools.items():
        if fault := _fault(name, pool):
            raise fail(f"{path}: {fault}.", "A pool has slots (a number), a description and perhaps include_deferred.")
    return pools


def _fault(name: str, pool: Any) -> str | None:
    if name == "default_pool":
        return "default_pool: Airflow's own pool is set by [core] default_pool_task_slot_count"
    if not isinstance(pool, dict):
        return f"{name}: expected a map, found {pool!r}"
    for key, value in pool.items():
        if key not in KEYS:
            return f"{name}.{key}: unknown key"
        if type(value) is not KEYS[key]:
            return f"{name}.{key}: expected {KEYS[key].__name__}, found {value!r}"
    missing = [key for key in ("slots", "description") if key not in pool]
    if missing:
        return f"{name}.{missing[0]}: missing"
    return None if pool["slots"] == -1 or pool["slots"] > 0 else f"{name}.slots: {pool['slots']} lets nothing run"
