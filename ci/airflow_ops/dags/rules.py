"""The rules for DAGs of this repository: one function per rule, which returns what is wrong, or None."""

import importlib.util
import inspect
import keyword
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_ops.dags.facts import POD_TEMPLATES
from airflow_ops.dags.source_lines import Lines
from airflow_ops.paths import DAGS

NO_OWNER = "airflow"
"""Airflow's owner of a task that names none."""
UNBOUNDED_RUNS = 16
"""Airflow's own `max_active_runs_per_dag`: the limit of a DAG that does not set max_active_runs."""
NAME = "{domain}_[a-z0-9]+_[a-z0-9_]*[a-z0-9]"
"""A DAG's id, `{domain}_{action}_{target}`; the target may end in a version, `_v2`."""
RESERVED = ("shared", "config")
"""Folders of the bundle that are not domains: the library and the configuration that all domains share."""
SAFE_DOMAINS = ("platform",)
"""Domains that are named like a module of the standard library and do no harm: without an `__init__.py` the folder is
not a package, so `import platform` finds Python's own module first. Such a domain cannot have a `library/`."""
DEFAULT_ARGS = ("owner", "retries", "retry_delay", "max_retry_delay", "execution_timeout", "executor_config")


@dataclass(frozen=True)
class Known:
    """The names that a DAG may use.

    Attributes:
        sizes: Worker sizes (`dags/config/sizes.yaml`).
        tags: Tags (`dags/config/tags.yaml`).
        pools: Pools (`dags/config/pools.yaml`).
    """

    sizes: frozenset[str]
    tags: frozenset[str]
    pools: frozenset[str]


@dataclass(frozen=True)
class Violation:
    """One rule that one file breaks.

    Attributes:
        file: Relative to the bundle.
        rule: The rule's name.
        detail: What is wrong, and what to do about it.
        line: The line; 0 for the file as a whole.
    """

    file: str
    rule: str
    detail: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.rule}: {self.detail}"


def violations(dag: Any, file: Path, known: Known, lines: Lines) -> Iterator[Violation]:
    """Every violation of a rule by a DAG and its tasks.

    Args:
        dag: An `airflow.sdk.DAG`, as parsed.
        file: Its file, relative to the bundle.
        known: The names that it may use.
        lines: The lines of the file.
    """
    for rule, broken in DAG_RULES.items():
        if detail := broken(dag, file, known):
            yield Violation(str(file), rule, detail, lines.of_dag(dag.dag_id))
    for task in dag.tasks:
        for rule, task_broken in TASK_RULES.items():
            if detail := task_broken(task, known):
                yield Violation(str(file), rule, f"task {task.task_id}: {detail}", lines.of_task(task, dag.dag_id))


def wrong_domain(name: str, bundle: Path = DAGS) -> str | None:
    """Why a domain of a bundle cannot have a name; None if it can."""
    if name in RESERVED:
        return f"{name!r} is the folder of what all domains share: choose another name"
    if keyword.iskeyword(name):
        return f"{name!r} is a word of Python's own, so nothing can be imported from its folder: choose another name"
    if name in SAFE_DOMAINS:
        return None
    if name in sys.stdlib_module_names:
        return f"{name!r} is a module of Python's standard library, which the folder may hide: choose another name"
    if is_installed(name, bundle):
        return f"{name!r} is an installed package, which would hide {name}/library: choose another name"
    return None


def is_installed(name: str, bundle: Path) -> bool:
    """Whether a package outside of the bundle has this name.

    Python imports a folder without `__init__.py` only if no package on the import path has the same name.
    """
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None and not Path(spec.origin).is_relative_to(bundle)


def domain_violations(bundle: Path, domains: Iterable[str]) -> Iterator[Violation]:
    """What is wrong with the folders of domains, whatever their DAGs are like.

    Args:
        bundle: Root of the bundle, which is on the import path of every task.
        domains: Names of folders in it.
    """
    for name in domains:
        if reason := wrong_domain(name, bundle):
            yield Violation(name, "domain", reason)
        if (bundle / name / "__init__.py").exists():
            detail = f"makes the folder a package, which hides any other module {name!r}: remove it"
            yield Violation(f"{name}/__init__.py", "domain", f"{detail}; what DAGs share goes into {name}/library")
        if name in sys.stdlib_module_names and (bundle / name / "library").exists():
            detail = f"cannot be imported, because {name!r} is a module of Python's standard library"
            yield Violation(f"{name}/library", "domain", f"{detail}: give the domain another name")


def check_id(dag: Any, file: Path, known: Known) -> str | None:
    """`{domain}_{action}_{target}`: the folder's name, a verb, what it acts on; and the name of the file."""
    if len(file.parts) != 2:
        return "move the file directly into the folder of its domain, neither above nor below it"
    if dag.dag_id != file.stem:
        return f"the id is {dag.dag_id!r}, the file {file.name!r}: name both alike"
    if not re.fullmatch(NAME.format(domain=file.parts[0]), dag.dag_id):
        return f"{dag.dag_id!r} is not {file.parts[0]}_<action>_<target> in small letters"
    return None


def check_tags(dag: Any, file: Path, known: Known) -> str | None:
    """The tags are known, and the domain is one of them."""
    unknown = sorted(set(dag.tags) - known.tags)
    if unknown:
        return f"unknown: {', '.join(unknown)}; use those of config/tags.yaml, or add it there"
    if file.parts[0] not in dag.tags:
        return f"the domain {file.parts[0]!r} is missing"
    return None


def check_documentation(dag: Any, file: Path, known: Known) -> str | None:
    """The DAG's page says what it does and what to do if it fails."""
    return None if (dag.doc_md or "").strip() else "no doc_md: say what it does and what to do if it fails"


def check_catchup(dag: Any, file: Path, known: Known) -> str | None:
    """The past is loaded by a backfill that somebody starts, not by unpausing."""
    return "catchup is on: unpausing would start every run of the past" if dag.catchup else None


def check_run_timeout(dag: Any, file: Path, known: Known) -> str | None:
    """A run that hangs must end."""
    return None if dag.dagrun_timeout else "no dagrun_timeout: say after how long a run has failed"


def check_active_runs(dag: Any, file: Path, known: Known) -> str | None:
    """The author decides how many runs of the DAG may run at the same time."""
    if dag.max_active_runs >= UNBOUNDED_RUNS:
        return f"max_active_runs is {dag.max_active_runs}: set it below {UNBOUNDED_RUNS}, Airflow's default"
    return None


def check_callback(dag: Any, file: Path, known: Known) -> str | None:
    """A run that times out fails no task, so only the DAG's own callback reports it."""
    return (
        None
        if dag.on_failure_callback
        else "no on_failure_callback: use shared.authoring.notifications.notify_run_failure"
    )


def check_default_args(dag: Any, file: Path, known: Known) -> str | None:
    """Retries, delays, timeout, owner and size come from the library, so that an environment can bound them."""
    missing = [key for key in DEFAULT_ARGS if key not in (dag.default_args or {})]
    return f"no {', '.join(missing)}: make them by shared.authoring.defaults.default_args" if missing else None


def check_owner(task: Any, known: Known) -> str | None:
    """Each task has a team that is responsible for it."""
    return (
        "has no owner: name the team in shared.authoring.defaults.default_args"
        if task.owner in ("", NO_OWNER)
        else None
    )


def check_timeout(task: Any, known: Known) -> str | None:
    """A task that hangs must end."""
    return (
        None
        if task.execution_timeout
        else "has no execution_timeout: take that of shared.authoring.defaults.default_args"
    )


def check_retry_delay(task: Any, known: Known) -> str | None:
    """An exponential delay between retries needs an upper bound."""
    return (
        None if task.max_retry_delay else "has no max_retry_delay: take that of shared.authoring.defaults.default_args"
    )


def check_size(task: Any, known: Known) -> str | None:
    """With a pod template that does not exist, Airflow would start a pod without any configuration."""
    template = (task.executor_config or {}).get("pod_template_file", "")
    if template not in {f"{POD_TEMPLATES}/{size}.yaml" for size in known.sizes}:
        return f"pod template {template!r} is not that of a size: use shared.authoring.resources.resources"
    return None


def check_pool(task: Any, known: Known) -> str | None:
    """A task whose pool does not exist is never started."""
    if task.pool not in known.pools | {"default_pool"}:
        return f"pool {task.pool!r} is not in dags/config/pools.yaml"
    return None


def check_pod_override(task: Any, known: Known) -> str | None:
    """Airflow merges the containers of a `pod_override` by their index, and the task runs in the one named `base`."""
    override = (task.executor_config or {}).get("pod_override")
    if override is None:
        return None
    if type(override).__name__ != "V1Pod":
        return f"pod_override is a {type(override).__name__}, which fails with a TypeError: make it a k8s.V1Pod"
    names = [container.name for container in (override.spec.containers if override.spec else None) or []]
    if names and names[0] != "base":
        return f"the first container of pod_override is {names[0]!r}: containers merge by index, so put `base` first"
    return None


def check_waiting(task: Any, known: Known) -> str | None:
    """A sensor that pokes holds a worker pod for as long as it waits."""
    from airflow.sdk import BaseSensorOperator

    kind = getattr(task, "operator_class", type(task))
    if not issubclass(kind, BaseSensorOperator) or _argument(task, "mode", "poke") == "reschedule":
        return None
    can_choose = hasattr(task, "deferrable") or "deferrable" in inspect.signature(kind.__init__).parameters
    defers = _argument(task, "deferrable", False) if can_choose else kind.execute is not BaseSensorOperator.execute
    if defers:
        return None
    return "holds a worker pod while it waits: deferrable=True, else mode='reschedule', else shared.composing.waiting"


def _argument(task: Any, name: str, default: Any) -> Any:
    """An argument of a task, mapped or not."""
    given = getattr(task, "partial_kwargs", {})
    return given.get(name, default) if given else getattr(task, name, default)


DAG_RULES: dict[str, Callable[[Any, Path, Known], str | None]] = {
    "id": check_id,
    "tags": check_tags,
    "documentation": check_documentation,
    "catchup": check_catchup,
    "run timeout": check_run_timeout,
    "active runs": check_active_runs,
    "failure callback": check_callback,
    "default arguments": check_default_args,
}
TASK_RULES: dict[str, Callable[[Any, Known], str | None]] = {
    "owner": check_owner,
    "timeout": check_timeout,
    "retry delay": check_retry_delay,
    "size": check_size,
    "pool": check_pool,
    "pod override": check_pod_override,
    "waiting": check_waiting,
}


def known_names(sizes: Collection[str], tags: Collection[str], pools: Collection[str]) -> Known:
    """`Known` from any collections of names."""
    return Known(frozenset(sizes), frozenset(tags), frozenset(pools))
