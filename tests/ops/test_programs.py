"""Programs that hang end with a message; one that waits for something gets the time that its wait may take."""

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_ops import programs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.environments.environment import Environment
from airflow_ops.waiting import wait_until


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubectl that answers after a second and a half, where programs get one second."""
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\nsleep 1.5\necho $*\n")
    program.chmod(0o755)
    monkeypatch.setattr(programs, "find", lambda _name: str(program))
    monkeypatch.setattr(programs, "TIMEOUT_SECONDS", 1)


@pytest.mark.usefixtures("slow")
def test_a_program_that_does_not_end_is_named_with_its_arguments() -> None:
    with pytest.raises(ProblemError, match="kubectl get pods did not end within 1 s"):
        programs.run("kubectl", ["get", "pods"])


@pytest.mark.usefixtures("slow")
def test_one_that_waits_gets_the_time_of_its_wait() -> None:
    """What takes minutes in a pod was ended after the two minutes of any other call."""
    cluster = Cluster(Environment("dev"), "lab")
    assert "exec pod" in cluster.kubectl("exec", "pod", seconds=900)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


TIED_CHILD = """
import sys, time
from airflow_ops import programs
with open(sys.argv[1], "w+") as output, programs.tied(["sh", "-c", "echo $$; exec sleep 600"], output):
    time.sleep(600)
"""


def test_a_tied_program_gives_its_exit_code_and_its_output(tmp_path: Path) -> None:
    with (tmp_path / "output").open("w+") as output:
        with programs.tied(["sh", "-c", "echo said; exit 7"], output) as process:
            assert process.wait(10) == 7
        output.seek(0)
        assert output.read() == "said\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="it looks at processes in /proc")
def test_a_tied_program_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    written = tmp_path / "output"
    parent = subprocess.Popen([sys.executable, "-c", TIED_CHILD, str(written)])
    assert wait_until(lambda: written.exists() and written.read_text().strip(), 20, 0.1)
    pid = int(written.read_text())
    assert _alive(pid)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not _alive(pid), 10, 0.1), "it outlived its parent"


def test_a_tied_program_ends_with_the_block(tmp_path: Path) -> None:
    with (tmp_path / "output").open("w+") as output, programs.tied(["sleep", "600"], output) as process:
        assert process.poll() is None
    assert process.returncode == 128 + 15
