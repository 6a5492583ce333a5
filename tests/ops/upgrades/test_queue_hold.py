"""Which queued tasks have no worker pod yet."""

from datetime import UTC, datetime
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_ops.cluster.connection import Cluster
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades.queue_hold import QueuedTask, View, queued_without_pod

QUEUED = 1_000_000.0
TASK = QueuedTask("load", "run", "task", -1, 1, QUEUED)


def pod(after: float = 5, phase: str = "Pending", deleted: bool = False, **notes: str) -> Any:
    annotations = {"dag_id": "load", "run_id": "run", "task_id": "task", "try_number": "1", **notes}
    moment = datetime.fromtimestamp(QUEUED + after, UTC)
    metadata = SimpleNamespace(
        annotations=annotations, creation_timestamp=moment, deletion_timestamp=moment if deleted else None
    )
    return SimpleNamespace(metadata=metadata, status=SimpleNamespace(phase=phase))


def left(row: QueuedTask, *pods: Any) -> list[QueuedTask]:
    core = SimpleNamespace(list_namespaced_pod=lambda *_, **__: SimpleNamespace(items=list(pods)))
    cluster = cast(Cluster, SimpleNamespace(core=core, namespace="airflow-dev"))
    view = View(cast(Any, None), StringIO())
    view.queued = [row]
    return queued_without_pod(cluster, view)


def test_a_task_with_its_pod_is_not_left() -> None:
    assert left(TASK, pod()) == []
    assert left(TASK, pod(phase="Running")) == []
    assert left(TASK._replace(map_index=4), pod(map_index="4")) == []


@pytest.mark.parametrize(
    "other",
    [
        pod(map_index="4"),
        pod(try_number="2"),
        pod(run_id="another"),
        pod(task_id="another"),
        pod(phase="Succeeded"),
        pod(deleted=True),
        # Its first pod, before it was deferred: it comes back with the same try.
        pod(after=-60, phase="Running"),
    ],
)
def test_the_pod_of_another_task_or_time_does_not_count(other: Any) -> None:
    assert left(TASK, other) == [TASK]


def test_components_are_told_apart_by_colour() -> None:
    view = View(cast(Any, None), StringIO())
    view.alive = [("SchedulerJob", "airflow-blue-scheduler-1"), ("TriggererJob", "airflow-green-triggerer-1")]
    assert view.alive_of("SchedulerJob", Colour.BLUE) == ["airflow-blue-scheduler-1"]
    assert view.alive_of("SchedulerJob", Colour.GREEN) == []
