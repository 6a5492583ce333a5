"""The help of every verb shows an example, and the example is a command that exists."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from airflow_ops.cli import app

ROOT = typer.main.get_command(app)


def verbs(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command without verbs of its own."""
    if not hasattr(command, "list_commands"):
        yield words
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from verbs(command.get_command(context, name), (*words, name))


def found_verb(words: tuple[str, ...]) -> Any:
    command: Any = ROOT
    for word in words:
        command = command.get_command(typer.Context(command), word)
    return command


def shown(words: tuple[str, ...]) -> str:
    """The help of a command in a terminal of 80 columns."""
    answer = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert answer.exit_code == 0, answer.output
    return answer.output


def example(words: tuple[str, ...]) -> str:
    """The command after `Example:`, which may go on in the next line, up to an empty line."""
    found = re.search(r"^ *Example: (.+?)\n *\n", shown(words), re.MULTILINE | re.DOTALL)
    assert found, f"airflow-ops {' '.join(words)} --help has no line `Example:`"
    return " ".join(found[1].split())


@pytest.mark.parametrize("words", list(verbs(ROOT)), ids=" ".join)
def test_every_help_has_an_example_of_its_command(words: tuple[str, ...]) -> None:
    command, *rest = shlex.split(example(words))
    assert command == "airflow-ops"
    assert rest[: len(words)] == list(words)


@pytest.mark.parametrize("words", list(verbs(ROOT)), ids=" ".join)
def test_every_example_has_arguments_that_its_command_takes(words: tuple[str, ...]) -> None:
    arguments = re.split(r" [>|] ", example(words))[0]
    found_verb(words).make_context(words[-1], shlex.split(arguments)[1 + len(words) :])


def test_no_line_of_a_help_is_wider_than_a_terminal() -> None:
    wide = [line for words in verbs(ROOT) for line in shown(words).splitlines() if len(line) > 80]
    assert not wide


def test_no_paragraph_is_broken_in_two_places() -> None:
    """Only the first paragraph is wrapped; the others keep their lines, which a terminal of 80 columns cuts at 78."""
    long = [
        (words, line)
        for words in verbs(ROOT)
        for paragraph in str(found_verb(words).help).split("\n\n")[1:]
        for line in paragraph.splitlines()
        if len(line) > 78 and not line.startswith("Example:")
    ]
    assert not long
