"""The workflows of GitHub Actions: safe, and made of steps that run the same at home."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_ops.paths import ROOT

FOLDER = ROOT / ".github/workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yaml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$")
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


MORE_RIGHTS = {
    # It writes the comment.
    "review": {"pull-requests": "write"},
    # It makes the tag, and signs as this workflow.
    "publish": {"contents": "write", "id-token": "write"},
    # It makes a branch and the pull request.
    "propose": {"contents": "write", "pull-requests": "write"},
}
"""Jobs that may do more than read this repository."""


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job.get("steps", [])]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_each_step_is_a_target_of_the_makefile(workflow: Path) -> None:
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert commands
    for command in commands:
        words = command.split()
        assert words[0] == "make", command
        assert words[1] in TARGETS, command


def test_each_action_is_pinned_by_its_commit(workflow: Path) -> None:
    for line in workflow.read_text().splitlines():
        if "uses:" in line:
            assert PINNED.search(line), line


UNLOCKED = re.compile(r"\b(uv tool|uvx|pipx|npx)\b|\bpip (install|sync)\b(?!.*(--require-hashes|--no-deps))")


def test_python_packages_come_from_a_lock_with_hashes() -> None:
    scripts = [ROOT / "Makefile", *(ROOT / "image").rglob("Dockerfile"), *WORKFLOWS]
    scripts += [path for path in (ROOT / "ci").iterdir() if path.is_file() and path.read_bytes().startswith(b"#!")]
    lines = [f"{path.name}: {line.strip()}" for path in scripts for line in path.read_text().splitlines()]
    assert [line for line in lines if UNLOCKED.search(line)] == []
    assert UNLOCKED.search("uv tool run --from zizmor==1.0 zizmor")
    assert UNLOCKED.search("pip install zizmor==1.0")


def test_rights_are_given_to_jobs_only(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] == {}
    for name, job in content["jobs"].items():
        assert job["permissions"] == {"contents": "read", **MORE_RIGHTS.get(name, {})}, name


def checked(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which(program) or shutil.which(program, path=str(ROOT / ".venv/bin"))
    if found is None:
        pytest.skip(f"{program} is not on PATH")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False)


def test_actionlint_finds_nothing() -> None:
    answer = checked("actionlint", *WORKFLOWS)
    assert answer.returncode == 0, answer.stdout


def test_zizmor_finds_nothing() -> None:
    answer = checked("zizmor", "--offline", "--no-progress", FOLDER)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("program", "change", "complaint"),
    [
        ("actionlint", ("ubuntu-24.04", "ubuntu-of-nobody"), "unknown"),
        ("zizmor", ("@3d3c42e5aac5ba805825da76410c181273ba90b1  # v7.0.1", "@v7"), "unpinned-uses"),
    ],
)
def test_they_find_what_is_planted(tmp_path: Path, program: str, change: tuple[str, str], complaint: str) -> None:
    text = (FOLDER / "ci.yaml").read_text()
    assert change[0] in text
    planted = tmp_path / ".github/workflows/ci.yaml"
    planted.parent.mkdir(parents=True)
    planted.write_text(text.replace(*change))
    answer = checked(program, *(["--offline", "--no-progress"] if program == "zizmor" else []), planted)
    assert answer.returncode != 0
    assert complaint in answer.stdout


def test_a_review_shows_each_environment() -> None:
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH")
    answer = subprocess.run([ROOT / "ci/review", "HEAD"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    names = re.findall(r"<summary>(\w+): \d+ changed, \d+ added, \d+ removed</summary>", answer.stdout)
    assert names == ["dev", "prod", "staging"]


def test_a_review_of_nothing_is_refused() -> None:
    answer = subprocess.run([ROOT / "ci/review", "no-such-ref"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "no-such-ref" in answer.stderr


def test_a_commit_without_scope_is_found(tmp_path: Path) -> None:
    """In a repository of its own, with the script of this one."""

    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "ci").mkdir()
    shutil.copy(ROOT / "ci/commits", tmp_path / "ci/commits")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    git("init", "--quiet")
    for message in (
        "feat(base): begin",
        "fix(rotation): a key",
        'Revert "feat(base): begin"',
        "fix: no scope",
        "improve things",
    ):
        git("commit", "--quiet", "--allow-empty", "--message", message)

    def found(base: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([tmp_path / "ci/commits", base], capture_output=True, text=True, check=False)

    answer = found("HEAD~4")
    assert answer.returncode == 1
    assert "fix: no scope" in answer.stderr
    assert "improve things" in answer.stderr
    assert "Revert" not in answer.stderr
    assert "fix(rotation)" not in answer.stderr.replace('"fix(rotation): ..."', "")
    git("reset", "--quiet", "--hard", "HEAD~2")
    assert found("HEAD~1").returncode == 0
