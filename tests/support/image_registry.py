"""An image registry on this machine: `crane registry serve`, which keeps everything in memory."""

import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

WAIT_SECONDS = 20


@dataclass
class Registry:
    """A registry that runs.

    Attributes:
        host: Address and port. It has no certificate; programs take that from an address of this machine.
        folder: A folder for layers.
    """

    host: str
    folder: Path

    def push(self, name: str, text: str = "") -> str:
        """Push an image of one file, whose text makes its digest.

        Args:
            name: Repository and tag.
            text: What is in the file.

        Returns:
            The digest.
        """
        file, layer = self.folder / "file", self.folder / "layer.tar"
        file.write_text(text)
        with tarfile.open(layer, "w") as archive:
            archive.add(file, "file")
        pushed = crane("append", "--new_layer", str(layer), "--new_tag", f"{self.host}/{name}")
        return pushed.rpartition("@")[2]


def crane(*arguments: str) -> str:
    """The output of crane."""
    done = subprocess.run(["crane", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """A registry while the block runs; the test is skipped where crane is not on PATH.

    Args:
        folder: An empty folder.
    """
    if shutil.which("crane") is None:
        pytest.skip("crane is not on PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "registry.log").open("w") as log:
        process = subprocess.Popen(["crane", "registry", "serve", "--address", host], stdout=log, stderr=log)
        try:
            _wait(host)
            yield Registry(host, folder)
        finally:
            process.terminate()
            process.wait()


def _wait(host: str) -> None:
    """Wait until it answers.

    Raises:
        TimeoutError: It does not.
    """
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        try:
            httpx.get(f"http://{host}/v2/").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"the registry at {host} does not answer")
