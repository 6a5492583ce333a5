"""Environment files are closed: what is wrong in one is named by file and key."""

from pathlib import Path

import pytest
import yaml

from shared.environment import CONFIG, ENVIRONMENTS, environment, load_environment


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """AIRFLOW_ENV may be changed here: what was read before is forgotten, and so is what is read now."""
    environment.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    environment.cache_clear()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_environment_is_complete(named: pytest.MonkeyPatch, name: str) -> None:
    named.setenv("AIRFLOW_ENV", name)

    assert environment().name == name


def test_dev_is_what_an_unset_variable_means(named: pytest.MonkeyPatch) -> None:
    named.delenv("AIRFLOW_ENV")

    assert environment().name == "dev"


def test_an_unknown_environment_names_the_known_ones(named: pytest.MonkeyPatch) -> None:
    named.setenv("AIRFLOW_ENV", "production")

    with pytest.raises(ValueError, match="AIRFLOW_ENV is 'production': use one of dev, staging, prod"):
        environment()


def test_only_prod_pages_somebody() -> None:
    pages = {
        name: load_environment(CONFIG / f"{name}.yaml").notifications.pagerduty_connection for name in ENVIRONMENTS
    }

    assert pages == {"dev": None, "staging": None, "prod": "pagerduty_events_default"}


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("tasks", "max_retires", 3, "tasks.max_retires: unknown key; known here: max_retries, retry_delay_scale"),
        ("tasks", "max_retries", "3", "tasks.max_retries: expected int, found '3'"),
        ("tasks", "max_retries", True, "tasks.max_retries: expected int, found True"),
        ("tasks", "retry_delay_scale", "fast", "tasks.retry_delay_scale: expected float, found 'fast'"),
        ("notifications", "slack_channel", None, "notifications.slack_channel: expected str, found None"),
        ("notifications", "pagerduty_connection", 7, "pagerduty_connection: expected str or null, found 7"),
        ("notifications", "slack_channel", ..., "notifications.slack_channel: missing"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, section: str, key: str, value: object, told: str) -> None:
    content = yaml.safe_load((CONFIG / "dev.yaml").read_text())
    content[section][key] = value
    if value is ...:
        del content[section][key]
    file = tmp_path / "dev.yaml"
    file.write_text(yaml.safe_dump(content))

    with pytest.raises(ValueError, match=r"dev\.yaml: ") as error:
        load_environment(file)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file: expected a map, found NoneType"),
        ("tasks: [", "cannot be read as YAML"),
        ("tasks: 3", "tasks: expected a map, found int"),
        ("colour: blue", "colour: unknown key"),
        ("name: dev", "name: remove it"),
    ],
)
def test_a_file_that_is_no_environment_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "dev.yaml"
    file.write_text(text)

    with pytest.raises(ValueError, match=told):
        load_environment(file)
