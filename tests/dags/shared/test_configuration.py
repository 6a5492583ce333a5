"""Configuration is closed, and each problem is one sentence that names file and key."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from airflow_ops.paths import DAGS
from shared.authoring.notifications import Team
from shared.authoring.resources import Size
from shared.configuration import CONFIG, Closed, Cron, Positive, Text, check, read
from shared.generating.snapshots import sources


class Parts(Closed):
    wait: Text


class Example(Closed):
    owner: Text
    schedule: Cron | None = None
    weight: Positive = 1.0
    tables: Annotated[list[Literal["a", "b"]], Field(min_length=1)] = ["a"]  # noqa: RUF012  a default of pydantic
    parts: Parts | None = None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"owner": "x", "schedule": "at noon"}, "f.yaml: schedule: 'at noon' is not a cron expression"),
        ({"owner": "x", "weight": 0}, "f.yaml: weight: expected greater than 0, found 0"),
        ({"owner": "x", "weight": "1"}, "f.yaml: weight: expected a number, found '1'"),
        ({"owner": "x", "tables": ["c"]}, "f.yaml: tables.0: expected 'a' or 'b', found 'c'"),
        ({"owner": "x", "tables": "a"}, "f.yaml: tables: expected a list, found 'a'"),
        ({"owner": "x", "parts": {}}, "f.yaml: parts.wait: missing"),
        ({"owner": "x", "parts": {"wait": "1", "work": "2"}}, "f.yaml: parts.work: unknown key (known here: wait)"),
        ({"owner": 7}, "f.yaml: owner: expected text, found 7"),
        ([], "f.yaml: the file: expected a map, found []"),
        ({"weight": True}, "f.yaml: owner: missing; f.yaml: weight: expected a number, found True"),
    ],
)
def test_each_problem_is_one_sentence(content: object, sentence: str) -> None:
    with pytest.raises(ValueError, match="f.yaml") as error:
        check(content, Example, "f.yaml")
    assert str(error.value) == sentence


def test_what_is_right_is_read() -> None:
    found = check({"owner": "x", "schedule": "0 5 * * *", "weight": 2, "tables": ["b"]}, Example, "f.yaml")
    assert (found.schedule, found.weight, found.tables) == ("0 5 * * *", 2, ["b"])


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "x: ["), ("a.json", "{"), ("gone.yaml", None)])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: cannot be read as (YAML|JSON)"):
        read(tmp_path / name, Example)


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "owner: x\nowner: y\n"), ("a.json", '{"owner": 1, "owner": 2}')])
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: cannot be read as (YAML|JSON): key 'owner' stands there twice"):
        read(tmp_path / name, Example)


@pytest.mark.parametrize(
    ("file", "kind"),
    [("sizes.yaml", dict[str, Size]), ("teams.yaml", dict[str, Team]), ("tags.yaml", dict[str, Text])],
)
def test_the_files_of_this_repository_are_right(file: str, kind: type[dict[str, object]]) -> None:
    assert read(CONFIG / file, kind)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("flights.library.nothing:Exports", "cannot be imported"),
        ("flights.library.exports:export_dag", "is not a class that extends Source"),
    ],
)
def test_a_source_of_snapshots_that_does_not_exist_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "sources.yaml").write_text(f'x_y_: {{source: "{name}", owner: x}}')
    with pytest.raises(ValueError, match=rf"sources.yaml: x_y_.source: '{name}' {reason}"):
        sources(tmp_path / "sources.yaml")


def test_the_library_knows_no_domain() -> None:
    """Neither by an import nor by a word: a second domain needs no edit here."""
    domains = {path.name for path in DAGS.iterdir() if path.is_dir()} - {"shared", "config", "platform", "__pycache__"}
    assert "flights" in domains
    named = {
        f"{file.relative_to(DAGS)}: {line}"
        for file in (DAGS / "shared").rglob("*")
        if file.suffix in (".py", ".j2")
        for line in file.read_text().splitlines()
        if any(f"from {domain}" in line or f"import {domain}" in line for domain in (*domains, "platform."))
    }
    assert named == set()
