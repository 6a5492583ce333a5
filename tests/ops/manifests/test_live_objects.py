"""What of an object on a cluster is compared with the rendered one; tests/e2e compares on a real cluster."""

from airflow_ops.manifests import live_objects
from airflow_ops.manifests.objects import Manifest


def test_of_a_live_object_counts_what_a_chart_says_or_has_said() -> None:
    """As Helm merges: what only the cluster says stays, what the last release said and this one does not goes."""
    before = {"spec": {"replicas": 1, "paused": False, "strategy": {"rollingUpdate": None}, "old": "x"}}
    after = {"spec": {"replicas": 1, "template": {"args": [], "cpu": "0.5"}}}
    running = {
        "spec": {"replicas": 2, "old": "x", "clusterIP": "10.0.0.1", "template": {"cpu": "500m", "dnsPolicy": "x"}},
        "status": {"ready": 1},
    }
    fields = live_objects.union(live_objects.filled(before), after)
    assert live_objects.cut(running, fields) == {
        "spec": {"replicas": 2, "old": "x", "template": {"args": [], "cpu": "0.5"}}
    }


def test_list_items_are_matched_by_name() -> None:
    fields = [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]
    running = [{"name": "injected", "x": 1}, {"name": "b", "value": "3", "extra": 0}, {"name": "a", "value": 1}]
    assert live_objects.cut(running, fields) == [
        {"name": "injected", "x": 1},
        {"name": "b", "value": "3"},
        {"name": "a", "value": "1"},
    ]


SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "mine"},
    "stringData": {"kept": "a", "changed": "b"},
}


def test_a_secrets_texts_are_compared_as_they_are_stored() -> None:
    written = Manifest("airflow-platform", "airflow-dev", SECRET)
    assert live_objects.as_stored(written).object["data"] == {"kept": "YQ==", "changed": "Yg=="}
    assert "stringData" not in live_objects.as_stored(written).object
