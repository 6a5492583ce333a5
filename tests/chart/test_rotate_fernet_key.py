"""The Job that encrypts everything with the new key, on a database with Airflow's own tables."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from airflow_ops.paths import ROOT

SCRIPT = ROOT / "charts/platform/files/scripts/rotate_fernet_key.py"
DEFERRED = '{"delta": 180}'
FILL = f"""
import airflow.models
from airflow.models.base import Base
from airflow.models.connection import Connection
from airflow.models.trigger import Trigger
from airflow.models.variable import Variable
from airflow.utils.session import create_session
from airflow.settings import engine

airflow.models.import_all_models()
Base.metadata.create_all(engine)
with create_session() as session:
    session.add(Connection(conn_id="shop", conn_type="http", password="swordfish", extra='{{"a": "b"}}'))
    session.add(Connection(conn_id="open", conn_type="http"))
    session.add(Variable(key="colour", val="red"))
    session.add(Trigger(classpath="of.an.asset", kwargs={{"a": "b"}}))
    deferred = Trigger(classpath="of.a.task", kwargs={{}})
    # As the execution API writes it for a task that defers.
    deferred.encrypted_kwargs = {DEFERRED!r}
    session.add(deferred)
"""
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def run(home: Path, keys: str, *program: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    variables |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__FERNET_KEY": keys,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }
    return subprocess.run([sys.executable, *program], env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose database is encrypted with the old key."""
    filled = run(tmp_path, OLD, "-c", FILL)
    assert filled.returncode == 0, filled.stderr
    return tmp_path


def stored(home: Path) -> dict[str, str]:
    with sqlite3.connect(home / "airflow.db") as database:
        found = dict(database.execute("SELECT classpath, kwargs FROM trigger").fetchall())
        found |= dict(database.execute("SELECT key, val FROM variable").fetchall())
        rows = database.execute("SELECT password, extra FROM connection WHERE conn_id = 'shop'").fetchall()
    return found | dict(zip(("password", "extra"), rows[0], strict=True))


def test_all_is_encrypted_anew_though_a_task_is_deferred(home: Path) -> None:
    before = stored(home)
    answer = run(home, f"{NEW},{OLD}", str(SCRIPT))
    assert answer.returncode == 0, answer.stderr
    assert "4 encrypted values" in answer.stdout
    after = stored(home)
    assert after.pop("of.a.task") == before.pop("of.a.task") == DEFERRED
    read = {name: Fernet(NEW).decrypt(text).decode() for name, text in after.items()}
    assert (read["password"], read["extra"], read["colour"]) == ("swordfish", '{"a": "b"}', "red")
    assert json.loads(read["of.an.asset"]) == json.loads(Fernet(OLD).decrypt(before["of.an.asset"]))


def test_what_no_key_reads_is_named_and_nothing_is_changed(home: Path) -> None:
    with sqlite3.connect(home / "airflow.db") as database:
        unreadable = Fernet(Fernet.generate_key()).encrypt(b"blue").decode()
        database.execute("UPDATE variable SET val = ?", (unreadable,))
    before = stored(home)
    answer = run(home, f"{NEW},{OLD}", str(SCRIPT))
    assert answer.returncode == 1
    assert "no key of the Secret reads variable colour" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert stored(home) == before
