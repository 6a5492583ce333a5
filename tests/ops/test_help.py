"""The help of every verb shows an example, and the example is a command that exists."""

import re
import shlex

import pytest
from typer.testing import CliRunner

from airflow_ops.cli import app
from support.hostile import commands, found_command


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


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_help_has_an_example_of_its_command(words: tuple[str, ...]) -> None:
    command, *rest = shlex.split(example(words))
    assert command == "airflow-ops"
    assert rest[: len(words)] == list(words)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_example_has_arguments_that_its_command_takes(words: tuple[str, ...]) -> None:
    arguments = re.split(r" [>|] ", example(words))[0]
    found_command(words).make_context(words[-1], shlex.split(arguments)[1 + len(words) :])


def test_no_line_of_a_help_is_wider_than_a_terminal() -> None:
    wide = [line for words in commands() for line in shown(words).splitlines() if len(line) > 80]
    assert not wide


def test_no_paragraph_is_broken_in_two_places() -> None:
    """Only the first paragraph is wrapped; the others keep their lines, which a terminal of 80 columns cuts at 78."""
    long = [
        (words, line)
        for words in commands()
        for paragraph in str(found_command(words).help).split("\n\n")[1:]
        for line in paragraph.splitlines()
        if len(line) > 78 and not line.startswith("Example:")
    ]
    assert not long
