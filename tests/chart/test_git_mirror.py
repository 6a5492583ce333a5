"""The Git mirror's loop, with real repositories: the commit that a run is pinned to must stay available."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_ops.paths import ROOT

SCRIPT = ROOT / "charts/platform/files/scripts/git_mirror.sh"
PATIENCE_SECONDS = 30


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def tip(mirror: Path, ref: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(mirror), "rev-parse", "--quiet", "--verify", ref], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, "not within its time"
        time.sleep(0.05)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "first")
    return folder


def asleep(process: subprocess.Popen[bytes]) -> bool:
    """Whether the mirror's round is over."""
    command = ["ps", "--ppid", str(process.pid), "-o", "comm="]
    return "sleep" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def end(process: subprocess.Popen[bytes]) -> None:
    """End a mirror with what it has started, which is all in a session of its own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path, origin: Path) -> Iterator[Start]:
    """Start a mirror of the origin; it ends with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def run(interval: int = 1, replicas: int = 1) -> subprocess.Popen[bytes]:
        command = ["bash", str(SCRIPT), str(tmp_path / "mirror.git"), str(origin), str(interval), str(replicas)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running.append(subprocess.Popen(command, **quiet, start_new_session=True))
        return running[-1]

    yield run
    for process in running:
        if process.poll() is None:
            end(process)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror.git"


def test_a_push_arrives(start: Start, origin: Path, mirror: Path) -> None:
    start()
    eventually(lambda: tip(mirror, "refs/heads/main") == git(origin, "rev-parse", "main"))
    pushed = commit(origin, "second")
    git(origin, "tag", "v1")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed == tip(mirror, "refs/tags/v1"))
    assert (mirror / "fetched").exists(), "what readiness asks for"
    assert not git(mirror, "tag", "--list", "kept/*"), "nothing was rewritten"


def test_a_commit_that_a_force_push_drops_can_still_be_cloned(
    start: Start, origin: Path, mirror: Path, tmp_path: Path
) -> None:
    start()
    dropped = commit(origin, "to be dropped")
    eventually(lambda: tip(mirror, "refs/heads/main") == dropped)
    git(origin, "reset", "--quiet", "--hard", "HEAD~1")
    instead = commit(origin, "instead")
    eventually(lambda: tip(mirror, "refs/heads/main") == instead)
    git(tmp_path, "clone", "--quiet", "--bare", f"file://{mirror}", "worker.git")
    assert git(tmp_path / "worker.git", "cat-file", "-t", dropped) == "commit"


def test_a_branch_that_the_origin_deletes_stays(start: Start, origin: Path, mirror: Path) -> None:
    git(origin, "branch", "feature")
    start()
    eventually(lambda: tip(mirror, "refs/heads/feature") != "")
    git(origin, "branch", "--delete", "--force", "feature")
    pushed = commit(origin, "later")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)
    assert tip(mirror, "refs/heads/feature")


def test_it_serves_on_while_the_origin_is_away_and_catches_up_after(
    start: Start, origin: Path, mirror: Path, tmp_path: Path
) -> None:
    process = start()
    first = git(origin, "rev-parse", "main")
    eventually(lambda: tip(mirror, "refs/heads/main") == first)
    shutil.move(origin, tmp_path / "away")
    round_ = (mirror / "round").stat().st_mtime
    eventually(lambda: (mirror / "round").stat().st_mtime > round_ + 1)
    assert process.poll() is None
    assert tip(mirror, "refs/heads/main") == first
    shutil.move(tmp_path / "away", origin)
    pushed = commit(origin, "back")
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)


def test_of_several_replicas_none_moves_a_branch_in_the_round_that_brings_it(
    start: Start, origin: Path, mirror: Path
) -> None:
    once = 3600
    first = git(origin, "rev-parse", "main")
    replica = start(interval=once, replicas=2)
    eventually(lambda: tip(mirror, "refs/heads/main") == first)
    end(replica)
    pushed = commit(origin, "second")
    replica = start(interval=once, replicas=2)
    eventually(lambda: tip(mirror, "refs/tags/incoming/heads/main") == pushed)
    eventually(lambda: asleep(replica))
    assert tip(mirror, "refs/heads/main") == first
    end(replica)
    start(interval=once, replicas=2)
    eventually(lambda: tip(mirror, "refs/heads/main") == pushed)
