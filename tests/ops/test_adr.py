"""Decisions in docs/adr: numbered without gaps, in one form, in an index; and what is said of docs/ is there."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_ops.paths import ROOT

ADRS = ROOT / "docs/adr"
PAGES = sorted(ADRS.glob("[0-9]*.md"))
SECTIONS = ["Context", "Decision", "Consequences", "What would violate it", "Evidence"]
# Not after a slash or a letter: that is part of an address elsewhere, or of a relative link (see test_docs.py).
DOCS_PATH = re.compile(r"(?<![\w./-])docs/[\w./-]*\w")
ADR_NUMBER = re.compile(r"\b(?:adr/|ADR[ -]?)0*(\d+)")


def tracked_files() -> list[Path]:
    """Every file that Git knows and that is text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]


def broken_references(text: str) -> Iterator[str]:
    """What a text says of docs/ that is not there: paths, and numbers of decisions."""
    for path in DOCS_PATH.findall(text):
        # A number alone, as in a comment, names the page that begins with it.
        if not (ROOT / path).exists() and not re.fullmatch(r"docs/adr/\d{4}", path):
            yield path
    for number in ADR_NUMBER.findall(text):
        if not list(ADRS.glob(f"{int(number):04}-*.md")):
            yield f"ADR {number}"


def title(page: Path) -> str:
    """The first line of a page."""
    return page.read_text().splitlines()[0]


def test_numbers_have_no_gap() -> None:
    assert [int(page.name[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_has_its_number_and_every_section(page: Path) -> None:
    assert title(page).startswith(f"# {int(page.name[:4])}. ")
    assert re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE) == SECTIONS


def test_the_index_lists_every_decision_in_order() -> None:
    rows = re.findall(r"^\| (\d+) \| \[(.*?)\]\((.*?)\) \| (\w+) \| (\d{4}-\d\d-\d\d) \|$", index(), re.MULTILINE)
    assert [(number, name, file) for number, name, file, _, _ in rows] == [
        (str(int(page.name[:4])), title(page).split(". ", 1)[1], page.name) for page in PAGES
    ]


def index() -> str:
    """The text of the index."""
    return (ADRS / "README.md").read_text()


def test_what_is_said_of_docs_is_there() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {reference}"
        for path in tracked_files()
        for reference in broken_references(path.read_text(errors="ignore"))
    ]
    assert broken == []


@pytest.mark.parametrize("text", ["see " + "docs/" + "nothing.md", "adr/" + "0999", "ADR " + "998"])
def test_a_reference_to_nothing_is_found(text: str) -> None:
    assert list(broken_references(text)) != []
