"""Worker sizes by name, so that no DAG carries numbers of its own."""

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter

from shared.authoring.configuration import CONFIG, Section, read_checked

SIZES = CONFIG / "sizes.yaml"
TEMPLATES = Path("/opt/airflow/pod_templates")
"""Where charts/airflow mounts the templates in the scheduler, one file a size."""


class Size(Section):
    """One size. All but the description goes into the pod unchanged, so it is in Kubernetes' own form."""

    description: str
    requests: dict[str, str | int | float]
    limits: dict[str, str | int | float]
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    affinity: dict[str, Any] = Field(default_factory=dict)
    nodeSelector: dict[str, str] = Field(default_factory=dict)  # noqa: N815  Kubernetes' own name


ALL = TypeAdapter(dict[str, Size])


@cache
def sizes() -> dict[str, dict[str, Any]]:
    """All sizes: name to description, requests, limits and node hints, as `dags/config/sizes.yaml` has them.

    Raises:
        ValueError: A key is unknown, missing or mistyped; file and key are named.
    """
    return {name: size.model_dump(exclude_unset=True) for name, size in read_checked(SIZES, ALL).items()}


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
