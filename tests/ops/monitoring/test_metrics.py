"""What an expression asks beyond what a scrape holds, and the event that a series needs before it is there."""

import pytest

from airflow_ops.monitoring.metrics import event_of, unknown
from airflow_ops.monitoring.promql import read


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ('airflow_scheduler_heartbeats{namespace="a"}', "airflow_scheduler_heartbeats is not in metrics.tsv"),
        ('rate(airflow_ti_queued{namespace="a"}[5m])', "airflow_ti_queued is not in metrics.tsv"),
        ('airflow_ti_failures{task_id="a"}', "airflow_ti_failures has no label task_id"),
        ("airflow_task_duration", "airflow_task_duration is not in metrics.tsv"),
        ("sum by (task_id) (airflow_ti_failures)", "nothing that it reads has the label task_id"),
        ("kube_pod_info * on (pod_name) up", "nothing that it reads has the label pod_name"),
    ],
)
def test_what_no_scrape_holds_is_reported(expr: str, said: str) -> None:
    assert unknown(expr) == [said]


def test_an_event_is_known_by_metric_or_by_selector() -> None:
    def event(expr: str) -> str:
        return event_of(read(expr).selectors[0])

    assert event('airflow_ti_failures{namespace="a"}') == "a failed try"
    assert event('kube_pod_info{namespace="a", priority_class="airflow-worker"}') == "a running task"
    assert event('kube_pod_info{namespace="a"}') == ""
