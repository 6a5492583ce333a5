"""When the runs of a DAG must have ended, and who is notified if they have not."""

from datetime import timedelta

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined]  # not in its stub

from shared.authoring.notifications import channel, page_of
from shared.authoring.settings import settings

CALLBACK = "platform_callbacks.notify_missed_deadline"
"""In plugins/: the triggerer calls it, and loads no bundle. KubernetesExecutor runs no synchronous callback."""


def deadline(dag_id: str, owner: str, interval: timedelta) -> DeadlineAlert:
    """The deadline of a DAG: `@dag(deadline=deadline(...))`.

    The scheduler watches it; a run that is late goes on, unlike with `dagrun_timeout`, which ends it. Each missed
    one also counts in the metric of the alert AirflowDeadlineMissed. `airflow dags test` of 3.3.2 fails for a DAG that
    has a deadline; `airflow-ops dags test` runs it without.

    Args:
        dag_id: The DAG.
        owner: The team that is notified.
        interval: Time that a run has from when it is queued: a backfill of old days is not late.
    """
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=interval,
        callback=AsyncCallback(
            CALLBACK,
            kwargs={
                "slack_connection": settings().notifications.slack_connection,
                "channel": channel(owner),
                "page": page_of(dag_id),
            },
        ),
    )
