"""Values are layered as Helm layers them, and mistakes name the file."""

from pathlib import Path

import pytest

from airflow_ops.console import ProblemError
from airflow_ops.environments import values


def test_maps_merge_lists_replace_and_null_removes() -> None:
    below = {"map": {"kept": 1, "replaced": 1, "removed": 1}, "list": [1, 2]}
    above = {"map": {"replaced": 2, "removed": None}, "list": [3]}
    assert values.merge(below, above) == {"map": {"kept": 1, "replaced": 2}, "list": [3]}
    assert below["map"] == {"kept": 1, "replaced": 1, "removed": 1}, "the layer below is not changed"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("global:\n  a: [1\n", r"values/dev.yaml is not YAML: .*line 3"),
        ("- a\n- b\n", r"values/dev.yaml holds a list"),
        (
            "global:\n  a: 1\n  b: {c: 1}\n  a: 2\n",
            r"values/dev.yaml is not YAML: key 'a' stands there twice, also on line 2",
        ),
        ("global: []\n", r"values/dev.yaml: global is not a map, found \[\]"),
        ("global: {\udc80}\n", r"values/dev.yaml is not UTF-8: .*decode"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str) -> None:
    monkeypatch.setattr(values, "ROOT", tmp_path)
    (tmp_path / "values").mkdir()
    (tmp_path / "values/dev.yaml").write_text(text, errors="surrogateescape")
    with pytest.raises(ProblemError, match=complaint):
        values.read_values(tmp_path / "values/dev.yaml")
