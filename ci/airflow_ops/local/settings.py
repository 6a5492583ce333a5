"""Airflow's settings on this machine, derived from the values that the clusters use."""

import configparser
import io
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from pydantic import TypeAdapter

from airflow_ops.console import fail
from airflow_ops.environments.configuration import read_json
from airflow_ops.environments.environment import Environment
from airflow_ops.environments.values import Values
from airflow_ops.paths import DAGS, PLUGINS, STATE

USER = "admin"
ENVIRONMENT = "dev"
Config = dict[str, dict[str, str]]
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


@dataclass(frozen=True)
class LocalSettings:
    """All settings of the local Airflow.

    Attributes:
        port: Port of the API server on 127.0.0.1.
        config: airflow.cfg by section and key; values are strings, as Airflow reads them.
        environment: Environment variables that are not secret, by name.
        secrets: Environment variables that are secret, by name.
        variables: Airflow variables by name.
        password: Password of the web page's user.
        is_new: Whether the password was made just now, so that nobody has seen it.
    """

    port: int
    config: Config
    environment: dict[str, str]
    secrets: dict[str, str] = field(repr=False)
    variables: dict[str, str]
    password: str = field(repr=False)
    is_new: bool = False

    @property
    def url(self) -> str:
        """Address of the web page."""
        return f"http://127.0.0.1:{self.port}"


CHART_DEFAULTS: Config = {
    "core": {"load_examples": "False"},
    "logging": {"colored_console_log": "False"},
}
"""Settings with which the official chart replaces Airflow's own defaults in every installation."""


def overrides(port: int, state: Path = STATE) -> Config:
    """The settings that differ from the cluster's: each replaces something that a single machine does not have.

    Args:
        port: Port of the API server.
        state: Folder of the local Airflow's state.
    """
    bundle = {
        "name": "platform",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS), "refresh_interval": 10},
    }
    return {
        "core": {
            # One machine has no cluster to start worker pods in, so tasks run as processes.
            "executor": "LocalExecutor",
            # In the image the plugins are in /opt/airflow.
            "plugins_folder": str(PLUGINS),
            # One user needs no user database: its password is generated once and kept in the state folder.
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": str(passwords_file(state)),
            "execution_api_server_url": f"http://127.0.0.1:{port}/execution/",
        },
        # One SQLite file instead of a database server; a writer waits for another one, by default for only 5 s.
        "database": {"sql_alchemy_conn": metadata_url(state, busy_seconds=60)},
        # Only this machine can reach it, because the login is meant for one person.
        "api": {"host": "127.0.0.1", "port": str(port), "base_url": f"http://127.0.0.1:{port}"},
        # The working tree itself, so that an edit works without a commit.
        "dag_processor": {"dag_bundle_config_list": json.dumps([bundle])},
        "logging": {
            "base_log_folder": str(state / "logs" / "tasks"),
            # Scheduler and triggerer serve logs on the ports after the page's, so that two checkouts can run at once.
            "worker_log_server_port": str(log_ports(port)[0]),
            "trigger_log_server_port": str(log_ports(port)[1]),
        },
        # A folder takes the place of the object storage.
        "common.io": {"xcom_objectstorage_path": f"{object_storage(state)}/xcom"},
        # Metrics are off, because no Prometheus runs beside a local Airflow.
        "metrics": {"statsd_on": "False"},
    }


def object_storage(state: Path) -> str:
    """URI of the folder that is used as object storage."""
    return (state / "object-storage").as_uri()


def metadata_database(state: Path) -> Path:
    """File of the local metadata database."""
    return state / "airflow.db"


def metadata_url(state: Path, busy_seconds: int) -> str:
    """URL of the metadata database for SQLAlchemy.

    Args:
        state: Folder of the local Airflow's state.
        busy_seconds: How long a writer waits for another one before it gives up.
    """
    return f"sqlite:///{metadata_database(state)}?timeout={busy_seconds}"


def log_ports(port: int) -> tuple[int, int]:
    """Ports on which scheduler and triggerer serve task logs, given the API server's."""
    return port + 1, port + 2


def connections(port: int, password: str, state: Path = STATE) -> dict[str, dict[str, Any]]:
    """Local replacements for the connections that a cluster takes from a Secret, by connection id."""
    return {
        "warehouse": {"conn_type": "sqlite", "host": str(state / "warehouse.db")},
        "airflow_api": {
            "conn_type": "http",
            "host": "127.0.0.1",
            "port": port,
            "schema": "http",
            "login": USER,
            "password": password,
        },
    }


def config_from_values(values: Values) -> Config:
    """`airflow.config` of the values as strings, without values that are Helm templates.

    A value with `{{ }}` is a Helm template that names an object of the cluster, so `overrides` must set its key.
    """
    config: Config = {}
    for section, keys in values.get("airflow", {}).get("config", {}).items():
        plain = {key: str(value) for key, value in keys.items() if "{{" not in str(value)}
        if plain:
            config[section] = plain
    return config


def _check_templates(values: Values, local: Config) -> None:
    for section, keys in values.get("airflow", {}).get("config", {}).items():
        for key, value in keys.items():
            if "{{" in str(value) and key not in local.get(section, {}) and section != "kubernetes_executor":
                raise fail(
                    f"airflow.config.{section}.{key} is a Helm template, which only a cluster can render.",
                    "Set its local value in overrides() in ci/airflow_ops/local/settings.py.",
                )


def _merge(below: Config, above: Config) -> Config:
    sections = {**below, **above}
    return {name: {**below.get(name, {}), **above.get(name, {})} for name in sections}


def _local_connections(values: Values, known: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    wanted = values.get("platform", {}).get("connections", [])
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise fail(
            f"platform.connections names {', '.join(missing)}, which have no local replacement.",
            "Add them to connections() in ci/airflow_ops/local/settings.py.",
        )
    return {name: known[name] for name in wanted}


def _plain_environment(values: Values) -> dict[str, str]:
    entries = values.get("airflow", {}).get("env", [])
    return {entry["name"]: str(entry["value"]) for entry in entries if "value" in entry}


SECRETS = ("password", "fernet", "jwt", "api")
"""What the file with the secrets of this machine holds."""
ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def _stored_secrets(path: Path) -> dict[str, str]:
    """The secrets of this machine: generated at the first start, then kept, because rows are encrypted with them."""
    if os.path.lexists(path):
        lost = "It is needed to read the database beside it: bring it back, or delete that whole folder."
        stored = read_json(path, path, ANYTHING, lost)
        # Not by a model, whose errors show what they found.
        if not isinstance(stored, dict) or not all(isinstance(stored.get(name), str) for name in SECRETS):
            raise fail(f"{path} does not hold {', '.join(SECRETS)}.", lost, 2)
        return stored
    generated = {
        "password": secrets.token_urlsafe(12),
        "fernet": Fernet.generate_key().decode(),
        "jwt": secrets.token_urlsafe(48),
        "api": secrets.token_urlsafe(32),
    }
    write_private(path, json.dumps(generated))
    return generated


def passwords_file(state: Path) -> Path:
    """File with the password of the web page's user, from which Airflow reads it too."""
    return state / "passwords.json"


def make_private(state: Path) -> None:
    """Make the state folder, and let nobody but its owner into it; files that others could read are closed to them."""
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(PRIVATE_FOLDER)
    for file in state.iterdir():
        if file.is_file() and not file.is_symlink():
            file.chmod(PRIVATE_FILE)


def write_private(path: Path, text: str) -> None:
    """Write a file atomically that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    draft = path.with_suffix(".draft")
    draft.touch(mode=PRIVATE_FILE)
    draft.chmod(PRIVATE_FILE)
    draft.write_text(text)
    draft.replace(path)


def local_settings(port: int, state: Path = STATE) -> LocalSettings:
    """Derive the local Airflow's settings from values/base.yaml and values/dev.yaml.

    Args:
        port: Port of the API server on 127.0.0.1.
        state: Folder of the local Airflow's state; the first call generates secrets in it.

    Raises:
        ProblemError: A value has no local replacement; its key is named.
    """
    values = Environment.load(ENVIRONMENT).values
    local = overrides(port, state)
    _check_templates(values, local)
    stored = state / "secrets.json"
    is_new = not stored.exists()
    generated = _stored_secrets(stored)
    wanted = _local_connections(values, connections(port, generated["password"], state))
    variables = {name: str(value) for name, value in values["platform"].get("variables", {}).items()}
    variables["object_storage_uri"] = object_storage(state)
    return LocalSettings(
        port=port,
        config=_merge(_merge(CHART_DEFAULTS, config_from_values(values)), local),
        environment={**_plain_environment(values), "AIRFLOW_HOME": str(state)},
        secrets={
            "AIRFLOW__CORE__FERNET_KEY": generated["fernet"],
            "AIRFLOW__API_AUTH__JWT_SECRET": generated["jwt"],
            "AIRFLOW__API__SECRET_KEY": generated["api"],
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(body) for name, body in wanted.items()},
        },
        variables=variables,
        password=generated["password"],
        is_new=is_new,
    )


def write_settings(settings: LocalSettings, state: Path = STATE) -> None:
    """Write airflow.cfg, the users' passwords and `environment`, a file to source before using `airflow` by hand."""
    parser = configparser.RawConfigParser()
    parser.read_dict(settings.config)
    make_private(state)
    (state / "object-storage").mkdir(exist_ok=True)
    text = io.StringIO()
    parser.write(text)
    write_private(state / "airflow.cfg", text.getvalue())
    write_private(passwords_file(state), json.dumps({USER: settings.password}))
    lines = [f"{name}='{value}'" for name, value in {**settings.environment, **settings.secrets}.items()]
    write_private(state / "environment", "\n".join(lines) + "\n")
