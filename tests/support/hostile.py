"""Words, numbers and files that nobody means to give, and the arguments of every command, to give them to."""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from airflow_ops.cli import app

OPTIONS = ("--output={made}", "-x", "--help")
"""Words that a program would take for options; `{made}` is a file that such a program would make."""
WORDS = {
    "empty": "",
    **{f"option {word.partition('=')[0]}": word for word in OPTIONS},
    "closing markup": "[/]",
    "markup": "[red]dev",
    "a second line": "dev\nerror everything is well",
    "not UTF-8": "dev\udc80",
    "long": "a" * 10_000,
    "folder above": "../dev",
    "absolute path": "/etc/passwd",
    "shell": "dev;id",
    "shell in a shell": "$(id)",
    "emoji": "dev🚀",
    "text from right to left": "dev\u202egnirts",
    "escape": "\x1b[2Jdev",
    "broken URL": "http://[",
    "NaN": "NaN",
}
"""Words by what is hostile about them. None has a NUL: the operating system ends an argument there."""
FEW = ("option --output", "closing markup", "a second line", "not UTF-8", "long", "folder above")
"""Enough for an argument that several commands take from one declaration (airflow_ops.options)."""
NUMBERS = ("", "-1", "NaN", "-inf", "1e400", "9" * 30, "-" + "9" * 30, "0x10", "dev")


def commands(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command of the app that has no commands of its own."""
    command = command or typer.main.get_command(app)
    if not hasattr(command, "list_commands"):
        yield words
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from commands(command.get_command(context, name), (*words, name))


def found_command(words: tuple[str, ...]) -> Any:
    """The command with these words."""
    found: Any = typer.main.get_command(app)
    for word in words:
        found = found.get_command(typer.Context(found), word)
    return found


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a command that takes a value.

    Attributes:
        name: Its name in Python.
        option: How an option is written; empty for an argument.
        kind: The type of its value.
        shown: How messages may name it.
        default: What it is where it is not given.
        bounds: The smallest and the largest number.
    """

    name: str
    option: str
    kind: type
    shown: tuple[str, ...]
    default: Any
    bounds: tuple[Any, Any]


def parameters(words: tuple[str, ...]) -> list[Parameter]:
    """The parameters of a command that take a value, in its order."""
    found = []
    for each in found_command(words).params:
        if getattr(each, "is_flag", False) or each.name == "help":
            continue
        option = each.opts[0] if each.opts[0].startswith("-") else ""
        shown = (option, each.name, each.metavar or each.name.upper())
        kind = each.type_descriptor.annotation
        kind = kind if isinstance(kind, type) else str
        found.append(Parameter(each.name, option, kind, shown, each.default, (each.min, each.max)))
    return found


def example(words: tuple[str, ...]) -> dict[str, str]:
    """Values of a command's parameters, from the example in its help."""
    command = found_command(words)
    line = command.help.split("Example: airflow-ops ")[1].splitlines()[0]
    context = command.make_context(words[-1], shlex.split(line.partition(" > ")[0])[len(words) :])
    values = {
        name: value[0] if isinstance(value, tuple | list) and value else value for name, value in context.params.items()
    }
    return {each.name: str(values[each.name]) for each in parameters(words) if values.get(each.name)}


def call(words: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    """A command line of a command with these values of its parameters."""
    own = parameters(words)
    options = [f"{each.option}={values[each.name]}" for each in own if each.option and each.name in values]
    arguments = [values[each.name] for each in own if not each.option and each.name in values]
    return [*words, *options, "--", *arguments] if arguments else [*words, *options]


def make_files(folder: Path, *, with_contents: bool) -> dict[str, Path]:
    """Paths at which there is no file, or none that can be read, by what is hostile about them.

    Args:
        folder: A folder, which is made.
        with_contents: Whether there are also files that can be read, but not as what they should be.
    """
    folder.mkdir()
    found = {name: folder / name.replace(" ", "-") for name in ("folder", "missing", "pipe", "loop", "dangling link")}
    found["folder"].mkdir()
    os.mkfifo(found["pipe"])
    found["loop"].symlink_to(found["loop"])
    found["dangling link"].symlink_to(found["missing"])
    found["below a file"] = folder / "empty/file"
    found["name too long"] = folder / ("a" * 10_000)
    found["memory of the process"] = Path("/proc/self/mem")
    found["empty"] = folder / "empty"
    found["empty"].touch()
    if not with_contents:
        return found
    contents: dict[str, bytes] = {
        "not UTF-8": b"dev: \xff\xfe\n",
        "binary": bytes(range(256)) * 16,
        "list": b"- dev\n- prod\n",
        "text": b"dev\n",
        "nested": b"[" * 10_000 + b"]" * 10_000,
        "nested maps": b"".join(b"%s? \n" % (b" " * n) for n in range(2_000)),
        "aliases": _bomb(),
        "an alias of itself": b"dev: &a {b: *a}\n",
        "a key twice": b"dev: {}\ndev: {}\n",
        "a wrong tag": b"dev: !!timestamp dev\n",
        "a map that is a word": b"dev: !!map dev\n",
        "a map that is a list": b"!!map [dev]\n",
        "an object": b"dev: !!python/object/apply:os.getpid []\n",
        "two documents": b"dev: {}\n---\ndev: {}\n",
        "a merge of nothing": b"dev: {<<: 5}\n",
        "a map as a key": b"{{dev: 1}: 1}\n",
        "a number as a key": b"1: {}\n",
        "50 MB": b"dev: " + b"a" * 50_000_000,
    }
    for name, content in contents.items():
        found[name] = folder / name.replace(" ", "-")
        found[name].write_bytes(content)
    return found


def _bomb() -> bytes:
    """A YAML file of 300 bytes that is 10^9 words."""
    lines = [b"a0: &a0 [dev, dev, dev, dev, dev, dev, dev, dev, dev, dev]"]
    for number in range(1, 9):
        lines.append(b"a%d: &a%d [%s]" % (number, number, b", ".join([b"*a%d" % (number - 1)] * 10)))
    return b"\n".join(lines) + b"\n"
