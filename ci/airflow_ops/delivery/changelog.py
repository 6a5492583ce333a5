"""CHANGELOG.md: what is unreleased, and a section for each version."""

import re
from collections.abc import Iterator
from datetime import date
from itertools import pairwise

from airflow_ops.console import fail

UNRELEASED = "Unreleased"
HEADING = re.compile(r"## +(?P<name>\S+).*")
FENCE = re.compile(r"\s*(```|~~~)")


def headings(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The number of each line that begins a section, and the section's name; blocks of code have none."""
    is_code = False
    for number, line in enumerate(lines):
        if FENCE.match(line):
            is_code = not is_code
        elif not is_code and (found := HEADING.fullmatch(line.rstrip())):
            yield number, found["name"]


def sections(changelog: str) -> dict[str, str]:
    """The text of each section, without its heading.

    Raises:
        ProblemError: Two sections have one name.
    """
    lines = changelog.splitlines()
    found = list(headings(lines))
    if double := {name for _, name in found if [other for _, other in found].count(name) > 1}:
        raise fail(f"CHANGELOG.md has two sections {', '.join(sorted(double))}.", "Make one of them.", 2)
    pairs = pairwise([*found, (len(lines), "")])
    return {name: "\n".join(lines[number + 1 : end]).strip() for (number, name), (end, _) in pairs}


def with_section(changelog: str, version: str, day: date) -> str:
    """The changelog with what is unreleased as the section of a version.

    Raises:
        ProblemError: There is no section of unreleased changes, no entry in it, or a section of this version already.
    """
    found = sections(changelog)
    if version in found:
        raise fail(f"CHANGELOG.md has a section of {version} already.", "Name another version.", 2)
    if not any(line.strip() and not line.startswith("#") for line in found.get(UNRELEASED, "").splitlines()):
        raise fail(
            "CHANGELOG.md has no unreleased changes.",
            f"Write under `## {UNRELEASED}` what users of this repository notice, and commit it.",
            2,
        )
    lines = changelog.splitlines(keepends=True)
    number = next(number for number, name in headings(lines) if name == UNRELEASED)
    end = "\r\n" if lines[number].endswith("\r\n") else "\n"
    return "".join([*lines[: number + 1], end, f"## {version} ({day}){end}", *lines[number + 1 :]])
