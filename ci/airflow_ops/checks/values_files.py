"""The check of the values files: their YAML, and that no layer repeats a value of a lower one."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_ops.checks.outcome import Outcome
from airflow_ops.environments.environment import Environment
from airflow_ops.environments.values import merge, read_values
from airflow_ops.paths import ROOT


def check_values(environment: Environment) -> Outcome:
    """Check the YAML of the values files, and that each value is set in one layer only.

    Helm replaces a list as a whole: where two files have it, the entries of the lower one are lost without a warning.
    """
    chain = environment.value_files
    outcome = Outcome(_yamllint(chain))
    below: dict[str, Any] = {}
    for file in chain:
        name = file.relative_to(ROOT)
        layer = read_values(file)
        outcome.breaches += [f"{name}: {message}" for message in _repeats(layer, below, "")]
        below = merge(below, layer)
    return outcome


def _yamllint(paths: list[Path]) -> list[str]:
    """The messages of yamllint for files, with the repository's .yamllint.yaml."""
    command = [sys.executable, "-m", "yamllint", "--strict", "--format", "parsable"]
    command += [str(path.relative_to(ROOT)) for path in paths]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return (answer.stdout + answer.stderr).splitlines()


def _repeats(layer: Mapping[str, Any], below: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in layer.items():
        if key not in below:
            continue
        here, other = f"{path}{key}", below[key]
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _repeats(value, other, f"{here}.")
        elif isinstance(value, list) and isinstance(other, list):
            yield f"the list {here} is in a layer below too, and Helm would drop that one: keep it in one file"
        elif value == other:
            yield f"{here} repeats the value of the layer below: remove it"
