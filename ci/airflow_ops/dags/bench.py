"""`bench`: how long things take; docs/benchmarks.md has figures with machine and date."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from airflow_ops.console import command_group, counted, fail, out, progress, show, table
from airflow_ops.options import AsJson
from airflow_ops.paths import DAGS

PROCESSES = 2
"""Files parsed at once: [dag_processor] parsing_processes is 2, and the budget is one for two cores."""
BUDGET_SECONDS = 5.0
"""For the repository: all its DAG files.

The budget is in CPU seconds because the wall clock also counts other processes on a busy machine; on two idle cores the
wall clock shows about half of them."""
TENANT_BUDGET_SECONDS = 0.1
"""For one more tenant, a file with one DAG: two processes read 1,000 of them in less than a minute."""
TENANT = DAGS / "flights/flights_slice_ewr.py"

app = command_group("bench", "How long things take.")


@app.callback()
def _root() -> None:
    """How long things take."""


@dataclass(frozen=True)
class Parse:
    """How long parsing the files of a bundle took.

    Attributes:
        files: Seconds of wall clock by file, slowest first.
        seconds: Wall clock from the first file to the last, `PROCESSES` at once.
        cpu_seconds: CPU time of all files.
        budget: The highest allowed `cpu_seconds`.
    """

    files: dict[str, float]
    seconds: float
    cpu_seconds: float
    budget: float


@app.command()
def parse(
    tenants: Annotated[
        int,
        typer.Option(min=0, max=9999, help="Number of generated tenants to measure in place of this repository."),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Parse every DAG file as the DAG processor does; exit code 1 if that takes more CPU time than the budget.

    Example: airflow-ops bench parse --tenants 1000
    """
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as folder:
        bundle = tenant_bundle(Path(folder), tenants) if tenants else DAGS
        found = measure(bundle, tenants * TENANT_BUDGET_SECONDS if tenants else BUDGET_SECONDS)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        _show(found)
    if found.cpu_seconds > found.budget:
        raise typer.Exit(1)


def measure(bundle: Path, budget: float) -> Parse:
    """Parse all files of a bundle.

    Raises:
        ProblemError: A file cannot be parsed.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as home, progress() as bar:
        line = bar.add_task("parsing DAG files", total=1)
        variables = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")}
        variables |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        command = [sys.executable, "-m", __name__, str(bundle.resolve())]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        bar.update(line, completed=1)
    if done.returncode != 0:
        raise fail(f"{bundle} cannot be parsed:\n{done.stderr}", "`airflow-ops dags lint` names what is wrong.")
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    files = dict(sorted(facts["files"].items(), key=lambda item: -item[1]))
    return Parse(files, facts["seconds"], facts["cpu_seconds"], budget)


def tenant_bundle(folder: Path, tenants: int) -> Path:
    """A bundle of this library and generated tenants, each a DAG file and its YAML as in the repository."""
    for name in ("shared", "config", "flights/library", "flights/config"):
        shutil.copytree(DAGS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "tenants"))
    shutil.copy(DAGS / ".airflowignore", folder)
    tenants_folder = folder / "flights/config/tenants"
    tenants_folder.mkdir()
    config = yaml.safe_load((DAGS / f"flights/config/tenants/{TENANT.stem}.yaml").read_text())
    for number in range(tenants):
        dag_id = f"flights_slice_t{number:04}"
        shutil.copy(TENANT, folder / f"flights/{dag_id}.py")
        tenant = {**config, "schedule": f"{number % 60} 6 * * *"}
        (tenants_folder / f"{dag_id}.yaml").write_text(yaml.dump(tenant))
    return folder


def _show(found: Parse) -> None:
    rows = table("DAG file", "seconds")
    for name, seconds in list(found.files.items())[:25]:
        rows.add_row(name, f"{seconds:.3f}")
    show(rows)
    out.print(
        f"{counted(len(found.files), 'file')} in {found.seconds:.2f} s, {PROCESSES} at once; "
        f"{found.cpu_seconds:.2f} CPU seconds of {found.budget:g}",
    )


def _measure(bundle: Path) -> dict[str, Any]:
    """Parse all files; runs in a child process that has imported Airflow."""
    from airflow_ops.dags.inspection import dag_files, import_airflow

    import_airflow()
    files = [
        file
        for file in dag_files(bundle)
        if file.parent.parent == bundle and file.parent.name not in ("shared", "config")
    ]
    start = time.monotonic()
    with ThreadPoolExecutor(PROCESSES) as pool:
        taken = list(pool.map(lambda file: _parse(file, bundle), files))
    seconds = time.monotonic() - start
    times = os.times()
    return {
        "files": {str(file.relative_to(bundle)): round(wall, 4) for file, wall in zip(files, taken, strict=True)},
        "seconds": round(seconds, 3),
        "cpu_seconds": round(times.children_user + times.children_system, 3),
    }


def _parse(file: Path, bundle: Path) -> float:
    """Parse one file and serialise its DAGs in a fork; the seconds that this took."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            from airflow.dag_processing.dagbag import BundleDagBag
            from airflow.serialization.serialized_objects import DagSerialization

            bag = BundleDagBag(dag_folder=file, bundle_path=bundle, bundle_name="bench")
            for dag in bag.dags.values():
                DagSerialization.to_dict(dag)
            if bag.import_errors or not bag.dags:
                sys.stderr.write(f"{file}: {bag.import_errors or 'no DAG'}\n")
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RuntimeError(f"{file} cannot be parsed")
    return time.monotonic() - start


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(_measure(Path(sys.argv[1]))) + "\n")
