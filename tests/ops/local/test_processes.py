"""Starting and stopping touches the processes of this checkout and no other."""

import json
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from airflow_ops.console import ProblemError
from airflow_ops.local import processes as local
from airflow_ops.local.settings import LocalSettings, local_settings

# Runs in place of `airflow COMPONENT`, which tests/local starts for real: it has a child, as a scheduler has.
COMPONENT = f"""#!{sys.executable}
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("made-by-" + sys.argv[1], "w").close()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[local.LocalProcesses]:
    script = tmp_path / "airflow"
    script.write_text(COMPONENT)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(local, "AIRFLOW", script)
    found = local.LocalProcesses(tmp_path)
    yield found
    found.stop()


@pytest.fixture
def free_settings(tmp_path: Path) -> LocalSettings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return local_settings(probe.getsockname()[1], tmp_path)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in 20 s"
        time.sleep(0.02)


def test_what_runs_is_not_started_again(own: local.LocalProcesses, free_settings: LocalSettings) -> None:
    assert own.start_missing(free_settings) == list(local.COMPONENTS)
    before = {name: process.pid for name, process in own.alive().items()}
    assert own.start_missing(free_settings) == []
    own.alive()["triggerer"].kill()
    wait_for(lambda: "triggerer" not in own.alive())
    assert own.start_missing(free_settings) == ["triggerer"]
    after = {name: process.pid for name, process in own.alive().items()}
    assert {name for name in local.COMPONENTS if before[name] != after[name]} == {"triggerer"}
    assert own.port() == free_settings.port


def test_nobody_else_may_read_what_a_component_writes(
    own: local.LocalProcesses, free_settings: LocalSettings, tmp_path: Path
) -> None:
    own.start_missing(free_settings)
    files = [tmp_path / f"made-by-{name}" for name in local.COMPONENTS]
    wait_for(lambda: all(file.exists() for file in files))
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_stop_ends_the_children_too(own: local.LocalProcesses, free_settings: LocalSettings) -> None:
    own.start_missing(free_settings)
    logs = [own.log(name) for name in local.COMPONENTS]
    wait_for(lambda: all(log.read_text().strip() for log in logs))
    children = [psutil.Process(int(log.read_text())) for log in logs]
    assert sorted(own.stop()) == sorted(local.COMPONENTS)
    assert not own.alive()
    wait_for(lambda: not any(child.is_running() for child in children))


def test_a_process_that_took_over_an_id_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        entry = {"pid": stranger.pid, "created": psutil.Process(stranger.pid).create_time() - 3600}
        (tmp_path / "processes.json").write_text(json.dumps({"port": 1, "components": {"scheduler": entry}}))
        found = local.LocalProcesses(tmp_path)
        assert found.alive() == {}
        assert found.stop() == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_busy_port_is_named_and_nothing_is_started(own: local.LocalProcesses, free_settings: LocalSettings) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_settings.port))
        listener.listen()
        with pytest.raises(ProblemError, match=f"port {free_settings.port} of 127.0.0.1 is taken.*--port"):
            own.start_missing(free_settings)
    assert own.alive() == {}


def test_a_command_that_fails_shows_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "airflow"
    script.write_text("#!/bin/sh\necho the database is locked >&2\nexit 4\n")
    script.chmod(0o700)
    monkeypatch.setattr(local, "AIRFLOW", script)
    with pytest.raises(ProblemError, match=r"`airflow db migrate` ended with exit code 4:\nthe database is locked"):
        local.run_airflow(local_settings(1, tmp_path), "db", "migrate")
