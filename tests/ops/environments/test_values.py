"""Values are layered as Helm layers them, and mistakes name the file."""

from pathlib import Path

import pytest

from airflow_ops import values
from airflow_ops.console import ProblemError


def test_maps_merge_lists_replace_and_null_removes() -> None:
    below = {"map": {"kept": 1, "replaced": 1, "removed": 1}, "list": [1, 2]}
    above = {"map": {"replaced": 2, "removed": None}, "list": [3]}
    assert values.merge(below, above) == {"map": {"kept": 1, "replaced": 2}, "list": [3]}
    assert below["map"] == {"kept": 1, "replaced": 1, "removed": 1}, "the layer below is not changed"


def test_an_environment_lies_over_base() -> None:
    merged = values.load_values("dev")
    assert merged["global"]["environment"] == "dev"
    assert merged["airflow"]["config"]["core"]["auth_manager"], "a key that only base.yaml sets"


def test_an_environment_that_does_not_exist_is_named() -> None:
    with pytest.raises(ProblemError, match=r"environment 'nowhere' does not exist.*Use one of .*dev") as caught:
        values.load_values("nowhere")
    assert caught.value.exit_code == 2


def test_an_overlay_that_does_not_exist_is_named() -> None:
    with pytest.raises(ProblemError, match="overlay 'moon' does not exist"):
        values.load_values("dev", ["moon"])


@pytest.fixture
def values_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "values"
    folder.mkdir()
    (folder / "base.yaml").write_text("global: {}\n")
    monkeypatch.setattr(values, "VALUES", folder)
    monkeypatch.setattr(values, "ROOT", tmp_path)
    return folder


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("global:\n  a: [1\n", r"values/dev.yaml is not YAML: .*line 3"),
        ("- a\n- b\n", r"values/dev.yaml holds a list"),
    ],
)
def test_a_broken_file_is_named(values_folder: Path, text: str, complaint: str) -> None:
    (values_folder / "dev.yaml").write_text(text)
    with pytest.raises(ProblemError, match=complaint):
        values.load_values("dev")
