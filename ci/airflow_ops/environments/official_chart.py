"""The official chart, pinned by version and digest, from a file, a cache or its repository."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import yaml

from airflow_ops.console import fail, out, unusable
from airflow_ops.environments.configuration import read_yaml
from airflow_ops.paths import ROOT

DIGEST_ANNOTATION = "airflow-platform.io/airflow-chart-sha256"
ARCHIVE_VARIABLE = "AIRFLOW_CHART_ARCHIVE"
DOWNLOAD_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Pin:
    """The wanted archive, as charts/airflow/Chart.yaml pins it; no other file names version or digest.

    Attributes:
        name: Name of the chart.
        version: Its exact version.
        repository: URL of the chart repository.
        sha256: Digest of the archive, 64 hexadecimal digits.
        folder: Where Helm looks for it: charts/airflow/charts.
    """

    name: str
    version: str
    repository: str
    sha256: str
    folder: Path

    @property
    def file(self) -> str:
        """Name of the archive, the same in every chart repository."""
        return f"{self.name}-{self.version}.tgz"

    @property
    def path(self) -> Path:
        """Where Helm expects the archive."""
        return self.folder / self.file


def read_pin(root: Path = ROOT) -> Pin:
    """Read the pin of the official chart.

    Args:
        root: A checkout of this repository.

    Raises:
        ProblemError: Chart.yaml is missing, or lacks the dependency or the digest.
    """
    file = root / "charts/airflow/Chart.yaml"
    if not file.exists():
        raise fail(f"{file} does not exist.", "Run from a complete checkout of the repository.", 2)
    try:
        chart: dict[str, Any] = read_yaml(file, file)
        dependency = next(d for d in chart["dependencies"] if d["name"] == "airflow")
        return Pin(
            name=dependency["name"],
            version=dependency["version"],
            repository=dependency["repository"].rstrip("/"),
            sha256=chart["annotations"][DIGEST_ANNOTATION],
            folder=file.parent / "charts",
        )
    except (KeyError, StopIteration, TypeError, AttributeError) as lack:
        raise fail(
            f"{file} does not pin the official chart ({lack}).",
            f"It needs a dependency `airflow` with version and repository, and the annotation {DIGEST_ANNOTATION}.",
            2,
        ) from lack


def helm_cache(environ: Mapping[str, str]) -> Path:
    """The folder of Helm's archive cache, from the variables that Helm itself reads (`helm env`)."""
    if "HELM_REPOSITORY_CACHE" in environ:
        return Path(environ["HELM_REPOSITORY_CACHE"])
    if "HELM_CACHE_HOME" in environ:
        return Path(environ["HELM_CACHE_HOME"]) / "repository"
    home = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "helm/repository"


def find_archive(pin: Pin, environ: Mapping[str, str]) -> Path | None:
    """The archive in the first place on this machine that has it; None if no place has it.

    Raises:
        ProblemError: That place has another archive, or `AIRFLOW_CHART_ARCHIVE` does not name a file.
    """
    if pin.path.exists():
        return _checked(pin.path, pin, f"Delete {pin.path} and run `airflow-ops deps` again.")
    if named := environ.get(ARCHIVE_VARIABLE):
        path = Path(named)
        if not path.is_file():
            raise fail(f"{ARCHIVE_VARIABLE}={named}: there is no such file.", f"Point it at {pin.file}, or unset it.")
        return _checked(path, pin, f"Point {ARCHIVE_VARIABLE} at the published {pin.file}, or unset it.")
    cached = helm_cache(environ) / pin.file
    if cached.exists():
        return _checked(cached, pin, f"Delete {cached} and run `airflow-ops deps` again.")
    return None


def _checked(path: Path, pin: Pin, fix: str) -> Path:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unusable(path, error) from error
    _check_digest(content, str(path), pin, fix)
    return path


def _check_digest(content: bytes, origin: str, pin: Pin, fix: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != pin.sha256:
        raise fail(
            f"{origin} is not the official chart {pin.version}: expected sha256 {pin.sha256}, found {found}.", fix
        )


def download(pin: Pin) -> bytes:
    """Fetch the archive from the chart repository, through its index as Helm does.

    Raises:
        ProblemError: The repository cannot be reached, does not have the version, or serves another archive.
    """
    offline = (
        f"Reach {pin.repository}, or set {ARCHIVE_VARIABLE} to a copy of {pin.file}, "
        f"or put one into {helm_cache(os.environ)}."
    )
    try:
        with httpx.Client(timeout=DOWNLOAD_TIMEOUT_SECONDS, follow_redirects=True) as client:
            index = yaml.safe_load(client.get(f"{pin.repository}/index.yaml").raise_for_status().text)
            path = next(str(e["urls"][0]) for e in index["entries"][pin.name] if e["version"] == pin.version)
            url = str(httpx.URL(f"{pin.repository}/").join(path))
            content = client.get(url).raise_for_status().content
    except httpx.HTTPError as error:
        raise fail(f"{pin.file} is not on this machine, and its download failed: {error}.", offline) from error
    except (yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise fail(f"{pin.repository}/index.yaml does not list {pin.name} {pin.version}.", offline) from error
    _check_digest(content, url, pin, "The download is damaged or not what was published: do not use it. " + offline)
    return content


def _put(content: bytes, pin: Pin) -> None:
    """Write the archive atomically, and delete archives of other versions, because Helm would render them too."""
    pin.folder.mkdir(parents=True, exist_ok=True)
    # Helm ignores a file with a leading dot, so one that runs meanwhile does not read the unfinished archive.
    handle, name = tempfile.mkstemp(dir=pin.folder, prefix=f".{pin.file}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(pin.path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    for other in pin.folder.glob(f"{pin.name}-*.tgz"):
        if other != pin.path:
            other.unlink()


def ensure(root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> Path:
    """Put the official chart where Helm looks for it and check its digest; a chart in place is not written again.

    Args:
        root: A checkout of this repository.
        environ: Environment variables, which name the caches.

    Returns:
        The archive in charts/airflow/charts.

    Raises:
        ProblemError: No place has it, or the archive in one of them has another digest.
    """
    pin = read_pin(root)
    found = find_archive(pin, environ)
    if found != pin.path:
        _put(found.read_bytes() if found else download(pin), pin)
    return pin.path


def deps(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if the chart is not in place.")
    ] = False,
) -> None:
    """Put the official chart, by version and digest, where Helm looks for it.

    It is taken from the first place that has it: charts/airflow/charts, the file
    named by AIRFLOW_CHART_ARCHIVE, Helm's archive cache, the official repository.

    Example: airflow-ops deps --check
    """
    pin = read_pin()
    if check:
        found = find_archive(pin, os.environ)
        if found == pin.path:
            out.print(f"official chart {pin.version} is in place: {pin.path}")
            return
        out.print(f"official chart {pin.version} is not in place; it would come from {found or pin.repository}")
        raise typer.Exit(1)
    out.print(f"official chart {pin.version} is in place: {ensure()}")
