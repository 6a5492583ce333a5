"""`airflow-ops dashboards`: the files are written from Python, and a changed one is noticed."""

import shutil
from pathlib import Path

import pytest

from airflow_ops.console import ProblemError
from airflow_ops.monitoring.dashboards import command


def test_a_file_that_somebody_changed_is_reported_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(command.FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "ROOT", tmp_path.parent)
    (tmp_path / "dags.json").write_text("{}")
    with pytest.raises(ProblemError, match="dags.json in .* is out of date"):
        command.dashboards(check=True)
    assert (tmp_path / "dags.json").read_text() == "{}"
    command.dashboards(check=False)
    command.dashboards(check=True)
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(ProblemError, match="mine.json"):
        command.dashboards(check=False)
