"""`ci/secrets-scan` refuses a secret in values, a DAG or a manifest."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from airflow_ops.paths import ROOT

PLANTED = {
    "values/prod.yaml": 'aws_access_key_id: "AKIA{}"\n'.format("Q3EGRIWL5T7PZ2VN"),
    "dags/load.py": 'SLACK_TOKEN = "xoxb-{}"\n'.format("263594206564-2343594206574-FGqddMF8t08v8N7Oq4i57vs1"),
    "manifest.yaml": "data: |\n  -----BEGIN RSA {0} KEY-----\n  {1}\n  -----END RSA {0} KEY-----\n".format(
        "PRIVATE", "MIIEowIBAAKCAQEAx3Zk9vN4bQ2Tj7Lr" * 4
    ),
}
"""Put together here, so that this file does not hold one."""


def scan(folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("gitleaks") is None:
        pytest.skip("gitleaks is not on PATH")
    return subprocess.run([ROOT / "ci/secrets-scan", folder], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_secret_is_found_and_not_repeated(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PLANTED[name])
    answer = scan(tmp_path)
    assert answer.returncode == 1
    assert path.name in answer.stdout
    assert PLANTED[name].split('"')[-2 if '"' in PLANTED[name] else 0][-16:] not in answer.stdout.replace(
        "REDACTED", ""
    )


def test_names_of_secrets_are_none(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "values", tmp_path / "values")
    assert scan(tmp_path).returncode == 0


def test_without_the_tool_it_says_how_to_get_it(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": "/usr/bin:/bin"}
    if shutil.which("gitleaks", path=environment["PATH"]):
        pytest.skip("gitleaks is in /usr/bin")
    command = [ROOT / "ci/secrets-scan", tmp_path]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 2
    assert "make tools" in answer.stderr
