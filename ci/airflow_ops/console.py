"""Output of the command: one console, one kind of error, one table style, no progress bars in a pipe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

# Without markup, because names, logs and messages of other programs contain brackets: see `styled`.
out = Console(soft_wrap=not sys.stdout.isatty(), markup=False, highlight=False)
err = Console(stderr=True, soft_wrap=not sys.stderr.isatty(), markup=False, highlight=False)


class ProblemError(Exception):
    """A problem that the user can fix; it is printed without a traceback, and the command exits with `exit_code`.

    Attributes:
        message: What is wrong, naming the key, file or object.
        fix: What to do about it.
        exit_code: The process exit code.
    """

    def __init__(self, message: str, fix: str, exit_code: int = 1) -> None:
        """Keep message and fix separate, so that they can be printed on separate lines."""
        super().__init__(f"{message} {fix}")
        self.message = message
        self.fix = fix
        self.exit_code = exit_code


LONGEST_NAME = 300
"""Characters of a file's name in a message."""
TRY_AGAIN = 3
"""Exit code where nothing is wrong with a command: the same one can succeed later, and a Job runs it again."""


class RefusalError(ProblemError):
    """Somebody else is at work, so nothing was changed: a reason to try again later, and no reason to go back."""

    def __init__(self, message: str, fix: str) -> None:
        """See `ProblemError`."""
        super().__init__(message, fix, TRY_AGAIN)


def command_group(name: str, text: str, cls: type[TyperGroup] = TyperGroup, completion: bool = False) -> typer.Typer:
    """Make a command that has verbs; without a verb it shows its help.

    Only the outermost command offers shell completion, which then covers all verbs.
    """
    return typer.Typer(
        name=name,
        cls=cls,
        no_args_is_help=True,
        add_completion=completion,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=text,
    )


def fail(message: str, fix: str, exit_code: int = 1) -> ProblemError:
    """Make the error to raise, from what is wrong and what to do about it."""
    return ProblemError(message, fix, exit_code)


def unusable(file: object, error: OSError) -> ProblemError:
    """Make the error to raise where the operating system refuses a file."""
    reason = error.strerror or str(error)
    return fail(
        f"{_short(str(file))} cannot be used: {reason}.", "Make it a file that you may use, or name another.", 2
    )


def _short(text: str) -> str:
    """The two ends of a text that is too long to be read."""
    return text if len(text) <= LONGEST_NAME else f"{text[:100]}...{text[-100:]}"


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 file, 2 files. The plural is made with an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def styled(text: str, style: str) -> Text:
    """Text in a colour or in bold. The rest of a line is another argument: out.print(styled("ok", "green"), name)."""
    return Text(text, style=style)


def table(*columns: str, whole: int = 1) -> Table:
    """An empty table in the one style of this command.

    Args:
        *columns: Headings.
        whole: How many of the first columns hold an id, a name or a schedule, which are not wrapped even between words.
    """
    made = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, no_wrap=number < whole)
    return made


def show(filled: Table) -> None:
    """Print a table without breaking a word.

    A pipe has no width, so the table is as wide as it needs. Where a terminal is too narrow for its longest words, each
    row becomes a block of lines instead.
    """
    wide = out.options.update(max_width=10_000)
    if not out.is_terminal:
        out.width = max(out.width, Measurement.get(out, wide, filled).maximum)
        out.print(filled)
    elif Measurement.get(out, wide, filled).minimum <= out.width:
        out.print(filled)
    else:
        _show_blocks(filled)


def _show_blocks(filled: Table) -> None:
    """Print one block per row: its first cell, and below it each heading with its cell."""
    first, *others = filled.columns
    for name, *cells in zip(first.cells, *(column.cells for column in others), strict=True):
        out.print(name)
        for column, cell in zip(others, cells, strict=True):
            if cell:
                out.print(" ", styled(str(column.header), "bold"), cell)


def print_problem(problem: ProblemError) -> None:
    """Print a problem and its fix to standard error."""
    err.print(styled("error", "bold red"), plain(problem.message))
    err.print(styled("fix  ", "bold"), plain(problem.fix))


def plain(text: str) -> str:
    """Text with every sign that is not shown as itself written as Python writes it in a literal.

    A name that somebody gave may hold signs that clear the screen, or turn the direction of what follows.
    """
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)


@contextmanager
def progress() -> Iterator[Progress]:
    """Live progress on a terminal; in a pipe there are only the lines printed through it."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        yield bar
