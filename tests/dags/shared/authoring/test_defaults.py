"""Profiles, and how an environment bounds them."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import DagSerialization

from shared.authoring.defaults import PROFILES, default_args
from shared.authoring.settings import settings


@pytest.fixture
def prod(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.cache_clear()
    monkeypatch.setenv("AIRFLOW_ENV", "prod")
    yield
    settings.cache_clear()


def test_prod_keeps_the_profile(prod: None) -> None:
    arguments = default_args("sales", "ml")

    assert arguments["owner"] == "sales"
    assert arguments["retries"] == 5
    assert arguments["retry_delay"] == timedelta(seconds=30)
    assert arguments["max_retry_delay"] == timedelta(minutes=10)
    assert arguments["retry_exponential_backoff"] == 2.0
    assert arguments["execution_timeout"] == timedelta(hours=2)


def test_dev_retries_less_and_sooner() -> None:
    arguments = default_args("sales", "ml")

    assert arguments["retries"] == 2
    assert arguments["retry_delay"] == timedelta(seconds=1.5)
    assert arguments["max_retry_delay"] == timedelta(seconds=30)
    assert arguments["execution_timeout"] == timedelta(hours=2)


def test_an_override_is_taken_as_it_is() -> None:
    arguments = default_args("sales", retries=9, retry_delay=timedelta(hours=1), depends_on_past=True)

    assert (arguments["retries"], arguments["retry_delay"]) == (9, timedelta(hours=1))
    assert arguments["depends_on_past"]


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="profile 'fast' does not exist: use one of default, api, ml, quick"):
        default_args("sales", "fast")


@pytest.mark.parametrize("profile", PROFILES)
def test_airflow_takes_and_serialises_them(profile: str) -> None:
    """As the DAG processor does, for a plain and a mapped task."""
    with DAG("sales_load_orders", schedule=None, default_args=default_args("sales", profile)) as dag:

        @task
        def load(number: int) -> None: ...

        load(1)
        load.override(task_id="mapped").expand(number=[1, 2])

    back = DagSerialization.from_dict(DagSerialization.to_dict(dag))

    for name in ("load", "mapped"):
        read = back.get_task(name)
        assert (read.owner, read.retry_exponential_backoff) == ("sales", 2.0)
        assert read.retries == min(PROFILES[profile].retries, 2)
        assert read.has_retry_policy
        assert read.executor_config["pod_template_file"].endswith("/default.yaml")
