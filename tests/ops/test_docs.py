"""What the documentation names exists: links, paths, commands with their options, overlays, values and tests."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup
from typer.exceptions import TyperException

from airflow_ops.cli import app
from airflow_ops.paths import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/README.md"), *ROOT.glob("tests/**/README.md")]
)
TOP = r"charts|ci|dags|docs|image|k8s|plugins|pod_templates|tests|values"
# Not after a slash or a letter: that is part of an address elsewhere, or of a relative link.
PATH = re.compile(rf"(?<![\w./>-])(?:{TOP})/[\w./<>*-]*")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```\w*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
# Where a command ends: a pipe, a redirection, or the next command. `a|b` without spaces is a choice.
COMMAND_END = re.compile(r"\s+(?:\||>|&&|;)\s*|;\s|$")
VALUES_KEY = re.compile(r"^(?:global|platform)\.[a-zA-Z.]*\w$")


def without_fences(text: str) -> str:
    """Prose and tables, without blocks of code."""
    return FENCE.sub("", text)


def commands(text: str, program: str) -> Iterator[tuple[list[str], bool]]:
    """Each call of a program in a text: its arguments, and whether it is in a block and so has to be complete."""
    blocks = [line.split(" #")[0] for block in FENCE.findall(text) for line in block.splitlines()]
    spans = CODE.findall(without_fences(text))
    for lines, complete in ((blocks, True), (spans, False)):
        for line in lines:
            for found in re.finditer(rf"(?:^|&& |\$ |; ?|\s){program} ", line):
                rest = line[found.end() :]
                end = COMMAND_END.search(rest)
                yield shlex.split(rest[: end.start()] if end else rest), complete


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Relative links of a page that lead nowhere."""
    for link in LINK.findall(without_fences(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def broken_paths(text: str) -> Iterator[str]:
    """Paths of this repository in a text that do not exist; <name>, ENV and * are any name."""
    made = set(re.findall(r"airflow-ops dags new (\w+)", text))
    for found in PATH.findall(text):
        path = found.rstrip(".")
        is_made = any(dag_id in path for dag_id in made)
        if not is_made and not list(ROOT.glob(re.sub(r"<[^>]*>|ENV", "*", path.rstrip("/")))):
            yield path


@cache
def verbs() -> Any:
    """The command line itself."""
    return typer.main.get_command(app)


def verb_of(words: list[str]) -> tuple[Any, list[str]]:
    """The verb that words begin with, and the words after it; a group where they name no verb of it.

    Raises:
        LookupError: There is no such verb.
    """
    command: Any = verbs()
    context = command.make_context("airflow-ops", [], resilient_parsing=True)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if not found:
            raise LookupError(f"there is no {words[0]!r}")
        context = found.make_context(words[0], [], parent=context, resilient_parsing=True)
        command, words = found, words[1:]
    return command, words


def problem_of_call(arguments: list[str], complete: bool) -> str | None:
    """Why the command line would not take these arguments; None if it would. Nothing is run.

    Args:
        arguments: What follows `airflow-ops`.
        complete: Whether required arguments have to be there.
    """
    try:
        verb, words = verb_of([word.split("|")[0] for word in arguments])
    except LookupError as error:
        return str(error.args[0])
    known = {option for parameter in verb.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    if unknown:
        return f"there is no option {', '.join(unknown)}"
    if not complete or isinstance(verb, TyperGroup) or "--help" in words:
        return None
    try:
        verb.make_context("airflow-ops", list(words))
    except TyperException as error:
        return str(error)
    return None


@cache
def targets() -> dict[str, str]:
    """Each target of the Makefile with what it runs."""
    makefile = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z0-9-]+):[^\n]*## [^\n]*\n\t([^\n]*)", makefile, re.MULTILINE))


def problem_of_target(words: list[str]) -> str | None:
    """Why `make` with these words would not do what they say; None if it would."""
    named = [word for word in words if "=" not in word]
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    for target in named:
        if target not in targets():
            return f"there is no target {target}"
        recipe = targets()[target]
        unread = [name for name in settings if f"$({name})" not in recipe and f"$(or $({name})," not in recipe]
        if unread:
            return f"{target} does not read {', '.join(unread)}"
        if (verb := re.search(r"\$\(OPS\) ([a-z-]+)", recipe)) and "ARGS" in settings:
            return problem_of_call([verb[1], *shlex.split(settings["ARGS"])], complete=False)
    return None


@cache
def schema() -> dict[str, Any]:
    """The schema of `global` and `platform`."""
    return dict(yaml.safe_load((ROOT / "charts/platform/values.schema.json").read_text()))


def is_value(key: str) -> bool:
    """Whether values may have this key."""
    node = schema()
    for part in key.split("."):
        while "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[1]
            node = schema().get("$defs", schema().get("definitions", {}))[name]
        more = node.get("additionalProperties")
        if part not in node.get("properties", {}) and not isinstance(more, dict):
            return node.get("type") == "object" and "properties" not in node
        node = node.get("properties", {}).get(part, more)
    return True


@cache
def names_of_tests() -> set[str]:
    """Every function and file of tests/ that pytest runs."""
    files = list(ROOT.glob("tests/**/test_*.py"))
    functions = (re.findall(r"def (test_\w+)", file.read_text()) for file in files)
    return {file.stem for file in files}.union(*functions)


def problems(page: Path, text: str) -> list[str]:
    """Everything that a page names and that is not there."""
    found = [f"link {link}" for link in broken_links(page, text)]
    found += [f"path {path}" for path in broken_paths(text)]
    for arguments, complete in commands(text, "airflow-ops"):
        if problem := problem_of_call(arguments, complete):
            found.append(f"airflow-ops {' '.join(arguments)}: {problem}")
    for words, _ in commands(text, "make"):
        if problem := problem_of_target(words):
            found.append(f"make {' '.join(words)}: {problem}")
    found += [f"test {name}" for name in re.findall(r"`(test_\w+)(?:\.py)?`", text) if name not in names_of_tests()]
    for overlay in re.findall(r"--overlay[ =]([a-z][\w-]*)", text):
        if not (ROOT / f"values/overlays/{overlay}.yaml").is_file():
            found.append(f"overlay {overlay}")
    found += [
        f"value {span}" for span in CODE.findall(without_fences(text)) if VALUES_KEY.match(span) and not is_value(span)
    ]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    assert problems(page, page.read_text()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a page](nowhere.md)", "link nowhere.md"),
        ("[a part](README.md#not-in-it)", "link README.md#not-in-it"),
        ("see ci/nothing.py", "path ci/nothing.py"),
        ("`values/<nothing>/x.yaml`", "path values/<nothing>/x.yaml"),
        ("`airflow-ops fly dev`", "there is no 'fly'"),
        ("`airflow-ops alerts fly`", "there is no 'fly'"),
        ("`airflow-ops deploy dev --fast`", "no option --fast"),
        ("```console\nairflow-ops deploy\n```", "Missing parameter"),
        ("`make fly`", "there is no target fly"),
        ("`make up ENV=dev`", "up does not read ENV"),
        ("`make deploy ENV=dev ARGS='--fast'`", "no option --fast"),
        ("`make deploy ENV=dev ARGS='--overlay nothing'`", "overlay nothing"),
        ("`platform.backup.nothing`", "value platform.backup.nothing"),
        ("`" + "test_nothing_at_all`", "test test_nothing_at_all"),
    ],
)
def test_what_is_not_there_is_found(text: str, problem: str) -> None:
    assert any(problem in found for found in problems(ROOT / "README.md", text)), problems(ROOT / "README.md", text)


def test_commands_are_found_in_blocks_and_in_text() -> None:
    text = "`make up` and\n```console\n$ airflow-ops diff dev --live | head\nmake a && make b ENV=dev  # why\n```"
    assert list(commands(text, "airflow-ops")) == [(["diff", "dev", "--live"], True)]
    assert [words for words, _ in commands(text, "make")] == [["a"], ["b", "ENV=dev"], ["up"]]
