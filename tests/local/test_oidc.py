"""Login through OpenID Connect: the overlay's own configuration, FAB's real pages and a real provider."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import oidc_provider_mock
import pytest

from airflow_ops.environments.values import read_values
from airflow_ops.paths import ROOT

OVERLAY = read_values(ROOT / "values/overlays/oidc.yaml")
PEOPLE = {
    "ada": ["airflow-admins", "staff"],
    "vic": ["airflow-viewers"],
    "eve": ["strangers"],
    "noa": [],
    # Called like a user with a password, who is an Admin here.
    "Admin": ["airflow-viewers"],
}
LOGIN = """
import json, os, sys
from urllib.parse import urlsplit
import httpx
from airflow.providers.fab.www.app import create_app
from airflow import settings
from airflow.utils.db import initdb
settings.configure_orm()
initdb()
app = create_app(enable_plugins=False)
# Where the API server mounts it.
HERE = "https://localhost/auth"
security = app.appbuilder.sm
with app.app_context():
    security.sync_roles()
    security.add_user("admin", "admin", "platform", "admin@here.example.com", security.find_role("Admin"), "swordfish")


def roles(person):
    with app.app_context():
        user = security.find_user(username=person)
        return sorted(role.name for role in user.roles) if user else None


def log_in(person):
    client = app.test_client()
    asked = client.get("/login/oidc", base_url=HERE)
    assert asked.status_code == 302, asked.text
    granted = httpx.post(asked.location, data={"sub": person})
    back = urlsplit(granted.headers["location"])
    assert back.path == "/auth/oauth-authorized/oidc", back
    answer = client.get(f"/oauth-authorized/oidc?{back.query}", base_url=HERE)
    with client.session_transaction(base_url=HERE) as session:
        return ["entered" if "_user_id" in session else "refused", *roles(person)]


found = {}
for person in sys.argv[1:]:
    first = log_in(person)
    httpx.put(os.environ["OIDC_ISSUER"] + f"/users/{person}", json={"preferred_username": person, "groups": []})
    found[person] = [first, log_in(person)]
print("found " + json.dumps(found))
"""


@pytest.fixture
def issuer() -> Iterator[str]:
    with oidc_provider_mock.run_server_in_thread() as server:
        address = f"http://localhost:{server.server_port}"
        for name, groups in PEOPLE.items():
            claims = {"preferred_username": name, "email": f"{name}@example.com", "groups": groups}
            assert httpx.put(f"{address}/users/{name}", json=claims).status_code == 204
        yield address


def test_a_group_makes_a_role_and_leaving_it_takes_it_away(issuer: str, tmp_path: Path) -> None:
    (tmp_path / "webserver_config.py").write_text(OVERLAY["airflow"]["apiServer"]["apiServerConfig"])
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "OIDC_ISSUER": issuer,
        "OIDC_CLIENT_ID": "airflow",
        "OIDC_CLIENT_SECRET": "from-the-secret",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOGIN, *PEOPLE],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert lines, done.stderr[-3000:]
    first = {person: rounds[0] for person, rounds in json.loads(lines[0].removeprefix("found ")).items()}
    assert first == {
        "ada": ["entered", "Admin", "Public"],
        "vic": ["entered", "Public", "Viewer"],
        "eve": ["entered", "Public"],
        "noa": ["entered", "Public"],
        "Admin": ["refused", "Admin"],
    }
    later = {person: rounds[1] for person, rounds in json.loads(lines[0].removeprefix("found ")).items()}
    out_of_the_group = {person: ["entered", "Public"] for person in PEOPLE.keys() - {"Admin"}}
    assert later == out_of_the_group | {"Admin": ["refused", "Admin"]}, "out of the group, out of the role"
