"""Smoke names a worker pod that is not made from one of our templates: the scheduler only warns if one is missing."""

from kubernetes.client import V1Container, V1ObjectMeta, V1Pod, V1PodSpec, V1Volume

from airflow_ops.deployment.smoke import pods_without_template

SIZES = {"small", "default"}


def pod(labels: dict[str, str], restart_policy: str = "Never", volumes: tuple[str, ...] = ("config", "logs")) -> V1Pod:
    spec = V1PodSpec(
        containers=[V1Container(name="base")],
        restart_policy=restart_policy,
        volumes=[V1Volume(name=name) for name in volumes] or None,
    )
    return V1Pod(metadata=V1ObjectMeta(name="worker", labels=labels), spec=spec)


def test_a_pod_of_a_template_is_known() -> None:
    assert pods_without_template({"worker": pod({"size": "small", "dag_id": "canary"})}, SIZES) == []


def test_the_bare_pod_of_a_template_that_does_not_exist_is_named() -> None:
    bare = pod({"dag_id": "canary"}, restart_policy="Always", volumes=())
    assert pods_without_template({"worker": bare}, SIZES) == [
        "pod worker is of no known size: its label `size` is None, not one of ['default', 'small']"
    ]


def test_a_size_that_is_no_longer_there_is_named() -> None:
    assert "'huge'" in pods_without_template({"worker": pod({"size": "huge"})}, SIZES)[0]


def test_a_pod_that_only_wears_the_label_is_named() -> None:
    assert pods_without_template({"worker": pod({"size": "small"}, volumes=())}, SIZES) == [
        "pod worker does not match pod_templates/small.yaml"
    ]
