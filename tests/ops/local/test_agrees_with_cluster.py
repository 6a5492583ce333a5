"""The Airflow of one machine runs with the configuration that the development cluster renders."""

import configparser
import re
from pathlib import Path

import pytest

from airflow_ops.environments.environment import Environment
from airflow_ops.local import settings as local
from support.chart_rendering import Charts

pytestmark = pytest.mark.xdist_group("local_agrees")  # what the module makes is made once


@pytest.fixture(scope="module")
def rendered(charts: Charts) -> configparser.RawConfigParser:
    configs = [
        manifest.object["data"]["airflow.cfg"]
        for manifest in charts.environment("dev").manifests
        if manifest.kind == "ConfigMap" and "airflow.cfg" in manifest.object.get("data", {})
    ]
    assert len(configs) == 1, "one airflow.cfg for all components"
    parser = configparser.RawConfigParser()
    parser.read_string(configs[0])
    return parser


def test_every_key_of_the_values_agrees(rendered: configparser.RawConfigParser, tmp_path: Path) -> None:
    made = local.local_settings(18080, tmp_path).config
    overridden = local.overrides(18080, tmp_path)
    differing = {
        f"{section}.{key}": (made.get(section, {}).get(key), rendered[section][key])
        for section, keys in Environment.load("dev").values["airflow"]["config"].items()
        for key, value in keys.items()
        if key not in overridden.get(section, {}) and not re.search(r"\{\{", str(value))
        if made.get(section, {}).get(key) != rendered[section][key]
    }
    assert differing == {}


# Rendered by the official chart for parts that do not run on one machine, or kept by it for older Airflow.
CLUSTER_ONLY = {
    "celery",
    "celery_kubernetes_executor",
    "core.dags_folder",
    "elasticsearch",
    "elasticsearch_configs",
    "fab",
    "kerberos",
    "kubernetes_executor",
    "logging.remote_logging",
    "metrics",
    "scheduler.standalone_dag_processor",
    "traces",
    "webserver",
}


def test_what_the_official_chart_adds_is_known(rendered: configparser.RawConfigParser, tmp_path: Path) -> None:
    made = local.local_settings(18080, tmp_path).config
    differing = {
        f"{section}.{key}": value
        for section in rendered.sections()
        for key, value in rendered[section].items()
        if section not in CLUSTER_ONLY and f"{section}.{key}" not in CLUSTER_ONLY and key not in made.get(section, {})
    }
    assert differing == {}, "say it in CHART_DEFAULTS of settings.py, or why it has no meaning here"
    for section, keys in local.CHART_DEFAULTS.items():
        for key, value in keys.items():
            assert rendered[section][key] == value, f"{section}.{key}"


def test_every_override_stands_for_something_that_the_cluster_sets_otherwise(
    rendered: configparser.RawConfigParser, tmp_path: Path
) -> None:
    same = [
        f"{section}.{key}"
        for section, keys in local.overrides(18080, tmp_path).items()
        for key, value in keys.items()
        if rendered.get(section, key, fallback=None) == value
    ]
    assert same == [], "an override that says what the values say anyway is not needed"
