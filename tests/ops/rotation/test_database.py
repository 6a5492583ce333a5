"""The metadata database's login: what is written into Secrets and SQL."""

import base64
import hashlib
import hmac
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_ops.console import ProblemError
from airflow_ops.rotation import context, database
from airflow_ops.rotation.context import RotationContext

DIRECT = "postgresql+psycopg2://airflow:old@airflow-database:5432/airflow"
PRESENT = {
    "connection": "postgresql+psycopg2://airflow:old@airflow-pgbouncer:6543/airflow",
    "connection-async": "postgresql+psycopg://airflow:old@airflow-pgbouncer:6543/airflow",
    "connection-direct": DIRECT,
    "connection-admin": "postgresql+psycopg2://postgres:root@airflow-database:5432/postgres",
}


def test_two_logins_take_turns_and_the_owner_stays() -> None:
    assert [database.other(login) for login in ("airflow", "airflow_a", "airflow_b")] == [
        "airflow_a",
        "airflow_b",
        "airflow_a",
    ]
    assert {database.owner(login) for login in ("airflow", "airflow_a", "airflow_b")} == {"airflow"}


def test_switching_changes_every_url_of_the_old_login_and_no_other() -> None:
    added = database.add(PRESENT)
    assert {key: added[key] for key in PRESENT} == PRESENT, "what is in use is not touched"
    assert database.add(added) == added
    switched = database.switch(added)
    assert switched.keys() == PRESENT.keys()
    assert database.switch(switched) == switched
    assert switched["connection-admin"] == PRESENT["connection-admin"]
    login, password = "airflow_a", database.urlsplit(added[database.NEXT]).password
    for key in ("connection", "connection-async", "connection-direct"):
        assert switched[key] == PRESENT[key].replace("airflow:old@", f"{login}:{password}@")


def test_what_goes_to_the_server_holds_no_password_and_lets_it_in() -> None:
    sql = database.make_role("postgresql://airflow_a:hunter2@h/airflow")
    assert "hunter2" not in sql
    found = re.search(r"'SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):([^']+)'", sql)
    assert found is not None
    rounds, salt, stored, _ = found.groups()
    salted = hashlib.pbkdf2_hmac("sha256", b"hunter2", base64.b64decode(salt), int(rounds))
    assert hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest() == base64.b64decode(stored)


def test_the_login_in_use_is_never_retired() -> None:
    for login, gone in (("airflow_a", {"airflow", "airflow_b"}), ("airflow_b", {"airflow", "airflow_a"})):
        assert set(re.findall(r"'(airflow\w*)'", database.old_logins(login))) == gone


def test_pgbouncer_knows_both_until_the_old_one_is_gone() -> None:
    users = '"airflow" "old"\n"stats" "s"\n'
    both = database.pooled(users, "postgresql://airflow_a:new@h/airflow")
    assert both == '"airflow" "old"\n"stats" "s"\n"airflow_a" "new"\n'
    assert database.pooled(both, "postgresql://airflow_a:new@h/airflow") == both
    assert database.unpooled(both, "airflow_a") == '"stats" "s"\n"airflow_a" "new"\n'


def test_a_login_that_would_need_quoting_is_refused() -> None:
    with pytest.raises(ProblemError, match="is not a plain name"):
        database.make_role("postgresql://air%27flow:x@h/airflow")


def test_sql_for_an_administrator_replaces_that_of_an_earlier_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "ROOT", tmp_path)
    monkeypatch.setattr(database, "ROOT", tmp_path)
    there = RotationContext(SimpleNamespace(environment=SimpleNamespace(name="prod")))  # type: ignore[arg-type]
    for text in ("SELECT 'of an earlier attempt, and longer'", "SELECT 1"):
        database.Rotation(there).write_for_administrator("make-role", text)
    [file] = (tmp_path / ".local/rotation/prod").iterdir()
    assert (file.name, file.read_text()) == ("make-role.sql", "SELECT 1")
    assert file.stat().st_mode & 0o777 == 0o600
