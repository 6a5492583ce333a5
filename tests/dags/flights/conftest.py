"""A slice of the published files, which the DAGs of a test read."""

import datetime as dt
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

SLICE = ("2013,1,1,", "2013,1,2,")
"""Two days: 842 and 943 flights."""


@dataclass
class Source:
    """A folder with the published files, which a test may spoil."""

    folder: Path

    def lines(self, file: str) -> list[str]:
        """The lines of a file, the header first."""
        path = self.folder / file
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.read(archive.namelist()[0]).decode().splitlines()
        return path.read_text().splitlines()

    def write(self, file: str, lines: list[str]) -> None:
        """Replace a file."""
        path, text = self.folder / file, "\n".join(lines) + "\n"
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(path.stem, text)
        else:
            path.write_text(text)

    def edit(self, file: str, line: int, change: Callable[[list[str]], list[str]]) -> None:
        """Change the fields of one line; the header is line 1, as an editor counts."""
        lines = self.lines(file)
        lines[line - 1] = ",".join(change(lines[line - 1].split(",")))
        self.write(file, lines)


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of the published files."""
    from flights.library.source import source_folder

    return Path(source_folder().path)


@pytest.fixture(scope="session")
def slice_of_source(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of the real flights and weather, and the reference tables whole."""
    source = Source(tmp_path_factory.mktemp("source"))
    for path in published.iterdir():
        shutil.copy(path, source.folder)
    for file, position in (("flights.csv.zip", 0), ("weather.csv", 1)):
        header, *rows = source.lines(file)
        kept = [row for row in rows if row.split(",", position)[position].startswith(SLICE)]
        source.write(file, [header, *kept])
    return source.folder


@pytest.fixture
def source(slice_of_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A copy of the slice that the DAGs of this test read."""
    copy = Source(tmp_path / "source")
    shutil.copytree(slice_of_source, copy.folder)
    monkeypatch.setenv("AIRFLOW_VAR_FLIGHTS_SOURCE_URI", copy.folder.as_uri())
    return copy


@pytest.fixture(scope="module")
def first_of_january(run_dag: Callable[..., "DagRun"], platform: Any, slice_of_source: Path) -> None:
    """The first of January 2013 is in the warehouse of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_VAR_FLIGHTS_SOURCE_URI", slice_of_source.as_uri())
        assert run_dag("flights_ingest_daily", dt.datetime(2013, 1, 1, tzinfo=dt.UTC)).state == "success"
