"""The external programs that the command runs: found on PATH, their output captured."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from airflow_ops.console import err, fail
from airflow_ops.paths import ROOT

INSTALL = {
    "crane": "make tools, or https://github.com/google/go-containerregistry/releases",
    "docker": "https://docs.docker.com/get-docker/",
    "git": "https://git-scm.com/downloads",
    "helm": "https://helm.sh/docs/intro/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/",
    "kubeconform": "https://github.com/yannh/kubeconform/releases",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}

OLDEST_HELM = (3, 19)
"""The official chart 1.22.0 asks for Helm 3.19 or newer."""

TIMEOUT_SECONDS = 120


@cache
def find(name: str) -> str:
    """The path of a program.

    Raises:
        ProblemError: It is not on PATH, or Helm is older than the official chart allows.
    """
    path = shutil.which(name)
    if path is None:
        raise fail(f"{name} is not on PATH.", f"Install it ({INSTALL[name]}) and run again.", exit_code=2)
    if name == "helm":
        _check_helm(path)
    return path


def _check_helm(path: str) -> None:
    answer = subprocess.run(
        [path, "version", "--template", "{{.Version}}"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    version = re.match(r"v?(\d+)\.(\d+)", answer.stdout)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_HELM:
        oldest = ".".join(map(str, OLDEST_HELM))
        raise fail(
            f"{path} is Helm {answer.stdout.strip() or 'of an unknown version'}: the official chart needs {oldest}.",
            f"Install Helm {oldest} or newer ({INSTALL['helm']}).",
            exit_code=2,
        )


def run(
    name: str,
    arguments: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    seconds: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and capture its output; the caller decides what a failure means.

    Args:
        name: The program, a key of `INSTALL`.
        arguments: What follows the program's name.
        stdin: Text for its standard input.
        cwd: The folder to run it in.
        seconds: How long it may take, `TIMEOUT_SECONDS` by default; a program that waits needs more than its wait.

    Raises:
        ProblemError: It is not on PATH, or takes too long.
    """
    command, limit = [find(name), *map(str, arguments)], seconds or TIMEOUT_SECONDS
    try:
        return subprocess.run(command, input=stdin, cwd=cwd, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as expired:
        raise fail(
            f"{name} {' '.join(map(str, arguments))[:200]} did not end within {limit} s.",
            "Run it by hand to see what it waits for.",
            exit_code=2,
        ) from expired


def show(command: Sequence[str], *, stdin: str | None = None) -> None:
    """Run a program whose output goes to the terminal, as progress, in the root of this checkout.

    Args:
        command: The program, a name or a path, and its arguments.
        stdin: Text for its standard input.

    Raises:
        ProblemError: It is not there, or fails.
    """
    err.print(f"$ {' '.join(command)}", soft_wrap=True)
    try:
        done = subprocess.run(command, cwd=ROOT, input=stdin, text=True, check=False)
    except FileNotFoundError as error:
        raise fail(f"{command[0]} is not on PATH.", "Install it and run again.", exit_code=2) from error
    if done.returncode != 0:
        raise fail(
            f"`{Path(command[0]).name} {command[1]}` ended with exit code {done.returncode}.",
            "Its output above says why; correct that and run this again.",
        )


TIED = """
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ cat <&3; kill "$program"; } >/dev/null 2>&1 &
wait "$program"
code=$?
kill $!
exit "$code"
"""
"""A shell that runs a program, and ends it (SIGTERM) once its own input ends: when this process closes it or dies."""


@contextmanager
def tied(command: Sequence[str], output: IO[str]) -> "Iterator[subprocess.Popen[str]]":
    """Run a program that does not outlive this process, not even when this process is killed.

    Args:
        command: The program and its arguments.
        output: A file for what it prints.

    Yields:
        The running program; at the end of the block it is ended if it still runs.
    """
    arguments = ["sh", "-c", TIED, "sh", *command]
    pipe = subprocess.PIPE
    # Ctrl-C reaches a whole group of processes; a session of its own leaves the end to `end`, which waits for it.
    with subprocess.Popen(
        arguments, stdin=pipe, stdout=output, stderr=output, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """End a program that `tied` started, and wait until it has ended; Helm then records its release as failed."""
    if process.stdin:
        process.stdin.close()
    process.wait()


def error_text(answer: subprocess.CompletedProcess[str]) -> str:
    """A program's error output, without Helm's remarks about symbolic links in a chart's folder."""
    lines = [line for line in answer.stderr.splitlines() if not line.startswith("walk.go:")]
    return "\n".join(lines).strip() or f"exit code {answer.returncode} without output"
