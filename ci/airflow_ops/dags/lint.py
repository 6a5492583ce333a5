"""`dags lint`: apply `rules` and `inspection` to the files that an author names."""

from collections.abc import Sequence
from pathlib import Path

from airflow_ops.console import fail, progress
from airflow_ops.dags.inspection import Inspection, inspect_bundle
from airflow_ops.dags.rules import Violation
from airflow_ops.environments.pools import load_pools
from airflow_ops.paths import DAGS, ROOT


def files_of(names: Sequence[str]) -> list[Path]:
    """DAG files of the bundle, each by its path or its DAG's id.

    Raises:
        ProblemError: There is no such file, or it is not in the bundle.
    """
    return [_file_of(name) for name in names]


def _file_of(name: str) -> Path:
    path = Path(name) if name.endswith(".py") else DAGS / name.partition("_")[0] / f"{name}.py"
    try:
        path = path.resolve()
        is_file = path.is_file()
    # Python raises the second one for a link that leads to itself.
    except (OSError, RuntimeError, ValueError):
        is_file = False
    if not is_file:
        raise fail(f"{name!r}: there is no such file in {DAGS}.", "`airflow-ops dags list` names all DAGs.")
    if not path.is_relative_to(DAGS):
        raise fail(f"{name!r} is not in {DAGS}.", "Move it into the folder of its domain there.")
    return path


def lint_files(files: Sequence[Path]) -> Inspection:
    """Inspect files; all of the bundle if none is given."""
    with progress() as bar:
        line = bar.add_task("reading DAG files", total=1)
        found = inspect_bundle(DAGS, load_pools(), files)
        bar.update(line, completed=1)
    return found


def where(violation: Violation) -> str:
    """A violation as one line with its path below the checkout, which an editor can open."""
    return f"{DAGS.relative_to(ROOT)}/{violation}"
