"""Worker sizes by name, so that no DAG carries numbers of its own."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from shared.environment import CONFIG

SIZES = CONFIG / "sizes.yaml"
TEMPLATES = Path("/opt/airflow/pod_templates")
"""Where charts/airflow mounts the templates in the scheduler, one file a size."""


@cache
def sizes() -> dict[str, dict[str, Any]]:
    """All sizes: name to description, requests, limits and node hints, as `dags/config/sizes.yaml` has them."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(SIZES.read_text())
    return content


def resources(size: str) -> dict[str, Any]:
    """The `executor_config` of a task that runs in a worker pod of this size.

    KubernetesExecutor starts the pod from the template named here; LocalExecutor ignores it.

    Args:
        size: A name in `dags/config/sizes.yaml`.

    Raises:
        ValueError: There is no such size. A template that does not exist would start a bare pod without configuration.
    """
    if size not in sizes():
        raise ValueError(f"size {size!r} does not exist: use one of {', '.join(sizes())} ({SIZES}).")
    return {"pod_template_file": str(TEMPLATES / f"{size}.yaml")}
