"""Worker sizes by name, so that no DAG carries numbers of its own."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.configuration import CONFIG, Closed, Text, read

SIZES = CONFIG / "sizes.yaml"
TEMPLATES = Path("/opt/airflow/pod_templates")
"""Where charts/airflow mounts the templates in the scheduler, one file a size."""


class Size(Closed):
    """A worker's size, as `dags/config/sizes.yaml` has it.

    Attributes:
        description: When to take it.
        requests: Kubernetes quantities by resource.
        limits: As `requests`.
        tolerations: Of the pod, in the form of Kubernetes.
        affinity: Of the pod, in the form of Kubernetes.
        nodeSelector: Of the pod, in the form of Kubernetes.
    """

    description: Text
    requests: dict[str, str]
    limits: dict[str, str]
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    affinity: dict[str, Any] = Field(default_factory=dict)
    nodeSelector: dict[str, str] = Field(default_factory=dict)  # noqa: N815  the name that Kubernetes uses


@cache
def sizes() -> dict[str, Size]:
    """All sizes by name."""
    return read(SIZES, dict[str, Size])


def resources(size: str) -> dict[str, Any]:
    """The `executor_config` of a task that runs in a worker pod of this size.

    KubernetesExecutor starts the pod from the template named here; LocalExecutor ignores it.

    Args:
        size: A name in `dags/config/sizes.yaml`.

    Raises:
        ValueError: There is no such size. A template that does not exist would start a bare pod without configuration.
    """
    if size not in sizes():
        # Raised here, because Airflow shows only the last two calls of an import error: this one and that of the DAG.
        raise ValueError(f"size {size!r} does not exist: use one of {', '.join(sizes())} ({SIZES})")
    return {"pod_template_file": str(TEMPLATES / f"{size}.yaml")}


def _known(size: str) -> str:
    resources(size)
    return size


SizeName = Annotated[str, AfterValidator(_known)]
"""The name of a size, in a configuration."""
