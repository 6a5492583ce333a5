"""Settings: one closed file an environment; what is wrong in one is named by file and key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from airflow_ops.paths import DAGS
from flights.library import settings as flights
from shared.authoring.settings import ENVIRONMENTS, Settings, environment_name, environments, load_settings, settings
from shared.configuration import read

NAMES = environments()
DOMAINS = sorted(path.parents[1].name for path in DAGS.glob("*/config/environments"))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """AIRFLOW_ENV may be changed here: what was read before is forgotten, and so is what is read now."""
    settings.cache_clear()
    flights.settings.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    settings.cache_clear()
    flights.settings.cache_clear()


def test_the_environments_are_the_files_there_are(tmp_path: Path) -> None:
    assert NAMES == ["dev", "prod", "staging"]
    (tmp_path / "qa.yaml").touch()
    assert environments(tmp_path) == ["qa"]


@pytest.mark.parametrize("name", NAMES)
def test_each_environment_is_complete(named: pytest.MonkeyPatch, name: str) -> None:
    named.setenv("AIRFLOW_ENV", name)

    assert environment_name() == name
    assert settings() == read(ENVIRONMENTS / f"{name}.yaml", Settings)
    assert flights.settings() == read(flights.ENVIRONMENTS / f"{name}.yaml", flights.FlightsSettings)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_with_settings_has_them_for_every_environment(domain: str) -> None:
    assert environments(DAGS / domain / "config/environments") == NAMES


def test_dev_is_what_an_unset_variable_means(named: pytest.MonkeyPatch) -> None:
    named.delenv("AIRFLOW_ENV")

    assert environment_name() == "dev"
    assert settings() == read(ENVIRONMENTS / "dev.yaml", Settings)


def test_an_unknown_environment_names_the_known_ones(named: pytest.MonkeyPatch) -> None:
    named.setenv("AIRFLOW_ENV", "production")

    with pytest.raises(ValueError, match="AIRFLOW_ENV is 'production': use one of dev, prod, staging"):
        settings()
    with pytest.raises(ValueError, match=r"use one of dev, prod, staging \(.*/flights/config/environments\)"):
        flights.settings()


def test_only_prod_pages_somebody() -> None:
    pages = {name: read(ENVIRONMENTS / f"{name}.yaml", Settings).notifications.pagerduty_connection for name in NAMES}

    assert pages == {"dev": None, "staging": None, "prod": "pagerduty_events_default"}


def load(folder: Path, text: str) -> Settings:
    """The settings of dev, where its file has this text."""
    (folder / "dev.yaml").write_text(text)
    return load_settings(Settings, folder)


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        ("tasks", "max_retires", 3, "tasks.max_retires: unknown key (known here: max_retries, retry_delay_scale)"),
        ("tasks", "max_retries", "3", "tasks.max_retries: expected a whole number, found '3'"),
        ("tasks", "max_retries", True, "tasks.max_retries: expected a whole number, found True"),
        ("tasks", "retry_delay_scale", "fast", "tasks.retry_delay_scale: expected a number, found 'fast'"),
        ("notifications", "slack_channel", None, "notifications.slack_channel: expected text, found None"),
        ("notifications", "pagerduty_connection", 7, "pagerduty_connection: expected text or null, found 7"),
        ("notifications", "slack_channel", ..., "notifications.slack_channel: missing"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, section: str, key: str, value: object, reason: str) -> None:
    content = yaml.safe_load((ENVIRONMENTS / "dev.yaml").read_text())
    content[section][key] = value
    if value is ...:
        del content[section][key]

    with pytest.raises(ValueError, match=r"dev\.yaml: ") as error:
        load(tmp_path, yaml.safe_dump(content))
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file: expected a map, found None"),
        ("tasks: [", "cannot be read as YAML"),
        ("tasks: 3", "tasks: expected a map, found 3"),
        ("colour: blue", "colour: unknown key"),
        ("name: dev", "name: unknown key"),
    ],
)
def test_a_file_that_is_not_an_environment_is_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load(tmp_path, text)
