"""The users of `platform.users`, as the migration Job makes them in a real database of Airflow's and FAB's tables."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from werkzeug.security import check_password_hash

from airflow_ops.paths import ROOT

SCRIPT = ROOT / "charts/platform/files/scripts/users.py"
WANTED = {
    "admin": {"role": "Admin", "email": "admin@example.com"},
    "platform": {"role": "Viewer", "email": "platform@example.com"},
}
PREPARE = """
from airflow import settings
from airflow.utils.db import initdb
settings.configure_orm()
initdb()
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as builder:
    builder.sm.sync_roles()
    # As a login through a provider makes it; the name is meant to be taken for one of ours.
    builder.sm.add_user("lee", "lee", "platform", "lee@example.com", builder.sm.find_role("Op"))
    builder.sm.add_user("eve", "Eve", "Byhand", "eve@example.com", builder.sm.find_role("User"), password="byhand")
"""
USERS = """
SELECT username, email, active, password, ab_role.name FROM ab_user
JOIN ab_user_role ON user_id = ab_user.id JOIN ab_role ON role_id = ab_role.id
"""


class Job:
    """The step of the migration Job, with a home, a folder of passwords, and a database."""

    def __init__(self, home: Path) -> None:
        """Take a home; its database has to be made."""
        self.home, self.passwords = home, home / "users"
        self.passwords.mkdir()

    def prepare(self) -> None:
        """Make the database."""
        made = self._run(["-c", PREPARE], "")
        assert made.returncode == 0, made.stderr[-3000:]

    def _run(self, program: list[str], text: str) -> subprocess.CompletedProcess[str]:
        variables = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")} | {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
        }
        return subprocess.run(
            [sys.executable, *program], input=text, env=variables, capture_output=True, text=True, check=False
        )

    def run(self, wanted: dict[str, Any], passwords: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run the script with the passwords that the Secret has."""
        for file in self.passwords.iterdir():
            file.unlink()
        for name, secret in passwords.items():
            (self.passwords / name).write_text(secret)
        return self._run([str(SCRIPT), str(self.passwords)], json.dumps(wanted))

    def said(self, wanted: dict[str, Any], passwords: dict[str, str]) -> list[str]:
        """What it says that it has done, in a run that succeeds."""
        answer = self.run(wanted, passwords)
        assert answer.returncode == 0, answer.stderr[-3000:]
        return sorted(line.removeprefix("user ") for line in answer.stdout.splitlines() if line.startswith("user "))

    def users(self, **logins: str) -> dict[str, dict[str, Any]]:
        """The users, and for each of `logins` whether the login is accepted: an active user with this password."""
        found: dict[str, dict[str, Any]] = {}
        with sqlite3.connect(self.home / "airflow.db") as database:
            for name, email, active, stored, role in database.execute(USERS):
                found.setdefault(name, {"role": [], "email": email, "active": bool(active)})["role"].append(role)
                if name in logins:
                    found[name]["enters"] = bool(active) and check_password_hash(stored, logins[name])
        return found

    def rows(self) -> list[Any]:
        """Every user as it is stored, with the time of the last change."""
        with sqlite3.connect(self.home / "airflow.db") as database:
            users = database.execute("SELECT * FROM ab_user ORDER BY id").fetchall()
            return users + database.execute("SELECT user_id, role_id FROM ab_user_role ORDER BY user_id").fetchall()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with roles and two users that are not the platform's."""
    prepared = Job(tmp_path_factory.mktemp("prepared"))
    prepared.prepare()
    return prepared.home / "airflow.db"


@pytest.fixture
def job(database: Path, tmp_path: Path) -> Job:
    shutil.copy(database, tmp_path)
    return Job(tmp_path)


@pytest.mark.long
def test_users_are_what_values_and_secret_say(job: Job) -> None:
    first = {"admin": "swordfish", "platform": "tuna"}
    assert job.said(WANTED, first) == ["admin: added", "platform: added"]
    users = job.users(admin="swordfish", platform="tuna", eve="byhand")
    assert users["admin"] == {"role": ["Admin"], "email": "admin@example.com", "active": True, "enters": True}
    assert users["platform"]["role"] == ["Viewer"]
    assert users["platform"]["enters"]

    before = job.rows()
    assert job.said(WANTED, first) == []
    assert job.rows() == before, "a second run writes nothing"

    changed = {"admin": {"role": "Op", "email": "ops@example.com"}, "platform": WANTED["platform"]}
    assert job.said(changed, first | {"platform": "salmon"}) == ["admin: roles, email", "platform: password"]
    users = job.users(admin="swordfish", platform="salmon")
    assert (users["admin"]["role"], users["admin"]["email"]) == (["Op"], "ops@example.com")
    assert users["admin"]["enters"]
    assert users["platform"]["enters"]

    only = {"admin": changed["admin"]}
    assert job.said(only, first) == ["platform: deactivated: platform.users does not have it"]
    users = job.users(platform="salmon", eve="byhand")
    assert not users["platform"]["active"]
    assert not users["platform"]["enters"]
    assert users["eve"]["enters"], "somebody made this user on the page"
    assert users["lee"] == {"role": ["Op"], "email": "lee@example.com", "active": True}, "a user of a provider's"

    assert job.said(changed, first | {"platform": "salmon"}) == ["platform: active"]
    assert job.users(platform="salmon")["platform"]["enters"]


def test_what_is_wrong_is_named_and_changes_nothing(job: Job) -> None:
    before = job.rows()
    for wanted, passwords, named in (
        (WANTED, {"admin": "swordfish"}, "add the key platform to it"),
        (WANTED, {"admin": "swordfish", "platform": "\n"}, "add the key platform to it"),
        (
            {"admin": WANTED["admin"] | {"role": "Chief"}},
            {"admin": "swordfish"},
            "platform.users.admin.role is 'Chief'",
        ),
        (
            {"Ann": WANTED["admin"], "ann": WANTED["platform"]},
            {"Ann": "swordfish", "ann": "swordfish"},
            "platform.users names Ann and ann, which is one user for Airflow",
        ),
        (
            {"a": {"role": "Op", "email": "Team@example.com"}, "b": {"role": "Op", "email": "team@example.com"}},
            {"a": "swordfish", "b": "swordfish"},
            "platform.users.b.email is team@example.com, which a has, too",
        ),
        ({"admin": WANTED["admin"] | {"email": "eve@example.com"}}, {"admin": "x"}, "platform.users.admin.email"),
    ):
        answer = job.run(wanted, passwords)
        assert answer.returncode == 1
        assert named in answer.stderr
        assert "swordfish" not in answer.stdout + answer.stderr
    assert job.rows() == before


def fail(job: Job, event: str) -> None:
    """Let the database refuse to write users, as it does if another Job has written the same one in between."""
    with sqlite3.connect(job.home / "airflow.db") as database:
        database.execute("DROP TRIGGER IF EXISTS refuse")
        database.execute(f"CREATE TRIGGER refuse BEFORE {event} BEGIN SELECT RAISE(ABORT, 'refused'); END")


def test_an_error_of_the_database_shows_no_hash(job: Job) -> None:
    secrets = {"admin": "swordfish", "platform": "tuna"}

    def refused(event: str, name: str, wanted: dict[str, Any], passwords: dict[str, str]) -> None:
        fail(job, event)
        answer = job.run(wanted, passwords)
        assert answer.returncode == 1
        assert f"problem: user {name} cannot be written: IntegrityError" in answer.stderr
        for word in ("scrypt:", "Traceback", "[parameters", "swordfish", "salmon"):
            assert word not in answer.stdout + answer.stderr, event

    refused("INSERT ON ab_user", "admin", WANTED, secrets)
    fail(job, "DELETE ON ab_user")
    job.said(WANTED, secrets)
    refused("UPDATE OF password ON ab_user", "platform", WANTED, secrets | {"platform": "salmon"})
    refused("UPDATE OF email ON ab_user", "admin", {"admin": {"role": "Op", "email": "ops@example.com"}}, secrets)
    refused("UPDATE OF active ON ab_user", "platform", {"admin": WANTED["admin"]}, secrets)
