"""Environment files are closed: what is wrong in one is named by file and key."""

from pathlib import Path

import pytest
import yaml

from shared.authoring.configuration import CONFIG, read_checked
from shared.authoring.settings import Settings, environment_name, settings

ENVIRONMENTS = ("dev", "staging", "prod")


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """AIRFLOW_ENV may be changed here: what was read before is forgotten, and so is what is read now."""
    settings.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_environment_is_complete(named: pytest.MonkeyPatch, name: str) -> None:
    named.setenv("AIRFLOW_ENV", name)

    assert environment_name() == name
    assert settings().tasks.max_retries > 0


def test_dev_is_what_an_unset_variable_means(named: pytest.MonkeyPatch) -> None:
    named.delenv("AIRFLOW_ENV")

    assert environment_name() == "dev"
    assert settings().notifications.slack_channel == "#data-alerts-dev"


def test_an_unknown_environment_names_the_known_ones(named: pytest.MonkeyPatch) -> None:
    named.setenv("AIRFLOW_ENV", "production")

    with pytest.raises(ValueError, match="AIRFLOW_ENV is 'production': use one of dev, prod, staging, or write"):
        settings()


def test_only_prod_pages_somebody() -> None:
    files = {name: read_checked(CONFIG / f"settings/{name}.yaml", Settings) for name in ENVIRONMENTS}
    pages = {name: found.notifications.pagerduty_connection for name, found in files.items()}

    assert pages == {"dev": None, "staging": None, "prod": "pagerduty_events_default"}


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("tasks", "max_retires", 3, "tasks.max_retires: unknown key"),
        ("tasks", "max_retries", "3", "tasks.max_retries: should be a valid integer, found '3'"),
        ("tasks", "max_retries", True, "tasks.max_retries: should be a valid integer, found True"),
        ("tasks", "retry_delay_scale", "fast", "tasks.retry_delay_scale: should be a valid number, found 'fast'"),
        ("notifications", "slack_channel", None, "notifications.slack_channel: should be a valid string, found None"),
        ("notifications", "pagerduty_connection", 7, "pagerduty_connection: should be a valid string, found 7"),
        ("notifications", "slack_channel", ..., "notifications.slack_channel: missing"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, section: str, key: str, value: object, told: str) -> None:
    content = yaml.safe_load((CONFIG / "settings/dev.yaml").read_text())
    content[section][key] = value
    if value is ...:
        del content[section][key]
    file = tmp_path / "dev.yaml"
    file.write_text(yaml.safe_dump(content))

    with pytest.raises(ValueError, match=r"dev\.yaml: ") as error:
        read_checked(file, Settings)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file: should be a map, found None"),
        ("tasks: [", "cannot be read as YAML"),
        ("tasks: 3", "tasks: should be a map, found 3"),
        ("colour: blue", "colour: unknown key"),
        ("name: dev", "name: unknown key"),
    ],
)
def test_a_file_that_is_no_environment_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "dev.yaml"
    file.write_text(text)

    with pytest.raises(ValueError, match=told):
        read_checked(file, Settings)
