"""The local Airflow has the settings of the development values, and others only where a machine is not a cluster."""

import configparser
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.environments.values import merge
from airflow_ops.local import command
from airflow_ops.local import settings as local

PORT = 18080


def test_configuration_is_read_from_the_values(tmp_path: Path) -> None:
    made = local.local_settings(PORT, tmp_path)
    wanted = Environment.load("dev").values["airflow"]["config"]
    overridden = local.overrides(PORT, tmp_path)
    compared = 0
    for section, keys in wanted.items():
        for key, value in keys.items():
            if key in overridden.get(section, {}) or "{{" in str(value):
                continue
            assert made.config[section][key] == str(value), f"{section}.{key}"
            compared += 1
    assert compared > 5, "values/ hold configuration that applies here too"


def test_variables_and_environment_are_read_from_the_values(tmp_path: Path) -> None:
    made = local.local_settings(PORT, tmp_path)
    platform = Environment.load("dev").values["platform"]
    assert made.variables.keys() == platform["variables"].keys()
    assert made.environment["AIRFLOW_ENV"] == "dev"


def test_every_connection_of_the_values_has_a_stand_in(tmp_path: Path) -> None:
    made = local.local_settings(PORT, tmp_path)
    names = {name.removeprefix("AIRFLOW_CONN_").lower() for name in made.secrets if name.startswith("AIRFLOW_CONN_")}
    assert names == set(Environment.load("dev").values["platform"]["connections"])


def _with_values(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    values = merge(Environment.load("dev").values, change)
    monkeypatch.setattr(Environment, "values", values)


def test_a_connection_without_a_stand_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_values(monkeypatch, {"platform": {"connections": ["warehouse", "mainframe"]}})
    with pytest.raises(ProblemError, match="platform.connections names mainframe"):
        local.local_settings(PORT, tmp_path)


def test_a_template_that_only_a_cluster_can_render_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_values(monkeypatch, {"airflow": {"config": {"core": {"hostname_callable": "{{ .Release.Name }}"}}}})
    with pytest.raises(ProblemError, match="airflow.config.core.hostname_callable is a Helm template"):
        local.local_settings(PORT, tmp_path)


def test_secrets_are_drawn_once(tmp_path: Path) -> None:
    first, second = local.local_settings(PORT, tmp_path), local.local_settings(PORT, tmp_path)
    assert first.secrets == second.secrets
    assert first.password == second.password
    assert len(first.password) >= 12


def test_secret_files_are_private_and_the_rest_holds_no_secret(tmp_path: Path) -> None:
    made = local.local_settings(PORT, tmp_path)
    local.write_settings(made, tmp_path)
    for name in ("secrets.json", "passwords.json", "environment"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name
    written = (tmp_path / "airflow.cfg").read_text()
    for secret in (made.password, *made.secrets.values()):
        assert secret not in written
        assert secret not in repr(made)


def test_nobody_else_may_look_into_the_folder(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    for name in ("airflow.db", "airflow.cfg"):
        (state / name).write_text("from an earlier version")
        (state / name).chmod(0o644)
    local.write_settings(local.local_settings(PORT, state), state)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.iterdir() if path.is_file()}
    assert modes.keys() >= {"airflow.db", "airflow.cfg", "secrets.json"}
    assert set(modes.values()) == {0o600}, modes


def test_a_folder_that_a_secret_makes_is_private(tmp_path: Path) -> None:
    local.local_settings(PORT, tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_the_password_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report: dict[str, Any] = {"components": [{"name": "api-server", "healthy": True}], "dag_runs": {}}
    report |= {"warehouse": {}, "url": "http://127.0.0.1:18080"}
    first, later = local.local_settings(PORT, tmp_path), local.local_settings(PORT, tmp_path)
    command._print_summary(report, first)
    assert first.password in capsys.readouterr().out
    command._print_summary(report, later)
    shown = capsys.readouterr().out
    assert first.password not in shown
    assert "passwords.json" in shown


def test_airflow_reads_what_was_written(tmp_path: Path) -> None:
    made = local.local_settings(PORT, tmp_path)
    local.write_settings(made, tmp_path)
    parser = configparser.RawConfigParser()
    parser.read(tmp_path / "airflow.cfg")
    assert {section: dict(parser[section]) for section in parser.sections()} == made.config
    assert json.loads((tmp_path / "passwords.json").read_text()) == {"admin": made.password}
