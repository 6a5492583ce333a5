"""`airflow-ops` of a checkout, each call in a fork of one process that has imported everything, and watched.

A fork takes milliseconds where a new process takes two seconds, and leaves nothing behind: a call may hang, may be
killed, and may change the state of its process. What it does to the machine is seen by an audit hook of Python.
"""

import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.small_checkout import Checkout

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {"os.remove": 1, "os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.symlink": 2, "os.chmod": 1, "os.link": 2}
"""Events about files that change, with the number of their arguments that are paths."""


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        code: Its exit code; None where it did not end in time.
        out: Its standard output.
        err: Its standard error.
        programs: The command lines of the programs that it started.
        forbidden: What it did that no call may do: a line each.
    """

    code: int | None
    out: str
    err: str
    programs: list[list[str]] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)


class ForkedCommand:
    """The process that forks."""

    def __init__(self, checkout: Checkout, programs: Sequence[str], temporary: Path) -> None:
        """Start it, and wait until it has imported the command.

        Args:
            checkout: Whose command it is.
            programs: Names of the programs that may be started.
            temporary: The folder that may be written to.
        """
        tests = str(Path(__file__).parents[1])
        environ = checkout.environ | {
            "PYTHONPATH": os.pathsep.join([checkout.environ["PYTHONPATH"], tests]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(temporary),
            "AIRFLOW_OPS_STATE": str(temporary / "state"),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forked_command", str(temporary), *programs],
            cwd=checkout.root,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def run(self, *arguments: str, seconds: float = 20, **environ: str) -> Ended:
        """`airflow-ops ARGUMENTS`.

        Args:
            *arguments: The words after the command's name; they may hold what no terminal can send.
            seconds: How long it may take.
            **environ: Environment variables that it has besides.
        """
        assert self._process.stdin
        request = {"arguments": arguments, "environ": environ, "seconds": seconds}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)


class Watch:
    """The audit hook of a fork: notes the programs, refuses and notes what no call may do."""

    def __init__(self, notes: Path, temporary: str, programs: Sequence[str]) -> None:
        self.descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self.folders = (os.path.realpath(temporary) + os.sep, "/dev/null", "/proc/self/")
        self.programs = programs

    def note(self, kind: str, what: Any) -> None:
        os.write(self.descriptor, (json.dumps([kind, what]) + "\n").encode())

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            self._program([os.fsdecode(word) for word in arguments[1]])
        elif event == "open" and arguments[2] & WRITES:
            self._paths(event, arguments[:1])
        elif event in PATHS:
            self._paths(event, arguments[: PATHS[event]])
        elif event in ("socket.connect", "socket.getaddrinfo"):
            self._address(arguments[1] if event == "socket.connect" else arguments)
        elif event in ("os.exec", "os.system", "os.posix_spawn", "os.kill"):
            self._refuse(f"{event} {arguments!r:.200}")

    @staticmethod
    def _address(address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            # As on a machine without a network.
            raise OSError(101, "Network is unreachable")

    def _program(self, words: list[str]) -> None:
        self.note("program", words)
        if Path(words[0]).name not in self.programs:
            self._refuse(f"starts {' '.join(words)!r:.200}")

    def _paths(self, event: str, paths: Sequence[Any]) -> None:
        for path in paths:
            # A number is a file that is open already; a name alone is one in such a folder (shutil.rmtree).
            if isinstance(path, int) or os.sep not in os.fsdecode(path):
                continue
            if not os.path.realpath(path).startswith(self.folders):
                self._refuse(f"{event} {path!r:.200}")

    def _refuse(self, what: str) -> None:
        self.note("forbidden", what)
        raise RuntimeError(f"no call may do this: {what}")


def _import_all() -> None:
    """Import every module of the command, but the programs that run elsewhere."""
    import airflow_ops

    for module in pkgutil.walk_packages(airflow_ops.__path__, "airflow_ops."):
        if not module.name.endswith(("_program", ".migration_program")):
            importlib.import_module(module.name)


def _child(request: Mapping[str, Any], files: Sequence[Path], watch: Watch) -> None:
    """Be the command; never returns."""
    code = 99
    try:
        os.setsid()
        for number, path in enumerate(files):
            descriptor = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, number)
        os.environ.update(request["environ"])
        sys.argv = ["airflow-ops", *request["arguments"]]
        from airflow_ops.cli import main

        sys.addaudithook(watch)
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(child: int, seconds: float) -> int | None:
    """The exit code of a fork; None where it had to be killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _serve(temporary: str, programs: Sequence[str]) -> None:
    # What a program prints while it is imported is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import_all()
    # A collection in a fork would copy all memory.
    gc.collect()
    gc.freeze()
    answers.write("true\n")
    answers.flush()
    names = [Path(temporary) / f".{name}" for name in ("out", "err", "notes")]
    for line in sys.stdin:
        request = json.loads(line)
        watch = Watch(names[2], temporary, programs)
        child = os.fork()
        if child == 0:
            _child(request, [Path(os.devnull), *names[:2]], watch)
        code = _ended(child, request["seconds"])
        os.close(watch.descriptor)
        out, err, notes = (name.read_text(errors="backslashreplace") for name in names)
        found = [json.loads(each) for each in notes.splitlines()]
        seen = {kind: [what for each, what in found if each == kind] for kind in ("program", "forbidden")}
        answer = {"code": code, "out": out, "err": err, "programs": seen["program"], "forbidden": seen["forbidden"]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
