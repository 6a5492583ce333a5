"""How the command speaks: one console, one kind of error, quiet in a pipe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

out = Console(soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, soft_wrap=not sys.stderr.isatty())


class ProblemError(Exception):
    """Something the user can mend; the command line prints it without a traceback and exits with `exit_code`.

    Attributes:
        message: What is wrong, naming the key, file or object.
        fix: What to do about it.
        exit_code: The process exit code.
    """

    def __init__(self, message: str, fix: str, exit_code: int = 1) -> None:
        """Keep the two sentences apart, so that they can be told apart on the screen."""
        super().__init__(f"{message} {fix}")
        self.message = message
        self.fix = fix
        self.exit_code = exit_code


def command_group(name: str, text: str, cls: type[TyperGroup] = TyperGroup, completion: bool = False) -> typer.Typer:
    """Make a command that has verbs: without one it shows its help, which is `text` and the verbs.

    Completion of the shell is offered by the outermost command, for all below it.
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


def print_problem(problem: ProblemError) -> None:
    """Print a problem and its fix to standard error."""
    err.print(f"[bold red]error[/] {problem.message}", highlight=False)
    err.print(f"[bold]fix[/]   {problem.fix}", highlight=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """Live progress on a terminal; in a pipe only the lines that are printed through it."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        yield bar
