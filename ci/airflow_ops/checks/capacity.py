"""`airflow-ops capacity`: whether what an environment may start at once can be scheduled at all."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from airflow_ops.checks import scheduling
from airflow_ops.checks.scheduling import COMPUTE, LimitRange, Load, NodeShape, show
from airflow_ops.console import out, progress
from airflow_ops.dags.facts import POD_TEMPLATES, Task
from airflow_ops.dags.inspection import load_tasks
from airflow_ops.environments.pools import load_pools
from airflow_ops.environments.values import Values, load_values
from airflow_ops.manifests.objects import Manifest, Object, Pod, airflow_config, pods, render_environment

DEFAULT_PARALLELISM = 32
"""Airflow 3.3.2, [core] parallelism: task instances at once, per scheduler and executor."""

DEFAULT_POOL_SLOTS = 128
"""Airflow 3.3.2, [core] default_pool_task_slot_count."""

KUBERNETES_EXECUTOR = "KubernetesExecutor"


@dataclass(frozen=True)
class Size:
    """One worker size as its pod template has it.

    Attributes:
        name: Its name in dags/config/sizes.yaml.
        spec: The spec of the rendered pod template.
        load: What one worker counts for.
        tasks: How many tasks of the DAGs use it.
        nodes: Names of the node shapes that can take it; None where no shapes are known.
        fits: How many such workers the quota leaves room for beside the components; None without a quota.
    """

    name: str
    spec: Object
    load: Load
    tasks: int
    nodes: list[str] | None
    fits: int | None


@dataclass
class Report:
    """What `capacity` found.

    Attributes:
        environment: Its name.
        parallelism: Task instances at once, per scheduler.
        schedulers: Replicas of the scheduler.
        components: Release to the load of all its pods that stay or may run at any time.
        quota: Hard limits of the namespace; empty without a quota.
        sizes: The worker sizes.
        default_size: The size of a task that names none.
        pools: Pool to slots; -1 is without limit.
        errors: What can never be scheduled, one line each.
        warnings: What cannot run all at once.
    """

    environment: str
    parallelism: int
    schedulers: int
    components: dict[str, Load]
    quota: Load
    sizes: list[Size]
    default_size: str
    pools: dict[str, int]
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def concurrency(self) -> int:
        """Workers at once at most: parallelism counts per scheduler."""
        return self.parallelism * self.schedulers

    @property
    def fixed(self) -> Load:
        """The load of everything but workers."""
        return scheduling.add(self.components.values())


class Environment:
    """What the manifests and values of an environment say, as far as capacity needs it."""

    def __init__(self, manifests: list[Manifest], values: Values) -> None:
        """Read manifests and values.

        Raises:
            ProblemError: A quantity cannot be read, or the official chart's configuration is missing.
        """
        self.manifests = manifests
        self.limits = LimitRange.read(m.object for m in manifests if m.kind == "LimitRange")
        self.quota = scheduling.read_quota(m.object for m in manifests if m.kind == "ResourceQuota")
        self.config = airflow_config(manifests)
        platform = values.get("platform") or {}
        self.shapes = [NodeShape.read(shape) for shape in platform.get("nodeShapes") or []]
        default_slots = self.config.getint("core", "default_pool_task_slot_count", fallback=DEFAULT_POOL_SLOTS)
        self.pools = {"default_pool": default_slots} | {name: int(pool["slots"]) for name, pool in load_pools().items()}

    @property
    def executors(self) -> str:
        """The configured executors, the default one first, as [core] executor has them."""
        return self.config.get("core", "executor")

    @property
    def default_size(self) -> str:
        """The size of a task that names none: by [kubernetes_executor] pod_template_file."""
        return Path(self.config.get("kubernetes_executor", "pod_template_file", fallback="")).stem

    def executor(self, task: Task) -> str:
        """The executor that runs a task: the first of [core] executor where the task names none."""
        return task.executor or self.executors.split(",")[0]

    def templates(self) -> dict[str, Pod]:
        """Size to its rendered pod template."""
        return {
            Path(pod.where).stem: pod
            for manifest in self.manifests
            if manifest.kind == "ConfigMap" and manifest.name.endswith("-pod-templates")
            for pod in pods(manifest)
        }

    def components(self) -> list[tuple[Pod, int]]:
        """Every pod but the workers, and how many of it there may be: an autoscaler's most, a Job's parallelism."""
        scaled = {
            (m.object["spec"]["scaleTargetRef"]["kind"], m.object["spec"]["scaleTargetRef"]["name"]): m
            for m in self.manifests
            if m.kind in ("HorizontalPodAutoscaler", "ScaledObject")
        }
        found = []
        for manifest in self.manifests:
            for pod in pods(manifest):
                if pod.where:
                    continue
                scaler = scaled.get((manifest.kind, manifest.name))
                found.append((pod, _replicas(manifest, scaler)))
        return found

    def schedulers(self) -> int:
        """Replicas of the scheduler."""
        return sum(
            count
            for pod, count in self.components()
            if pod.runs_on and (pod.metadata.get("labels") or {}).get("component") == "scheduler"
        )


def _replicas(manifest: Manifest, scaler: Manifest | None) -> int:
    spec = manifest.object["spec"]
    if scaler is not None:
        most = scaler.object["spec"].get("maxReplicas", scaler.object["spec"].get("maxReplicaCount"))
        return int(most)
    inner = spec["jobTemplate"]["spec"] if manifest.kind == "CronJob" else spec
    return int(inner.get("replicas", inner.get("parallelism", 1)))


def assess(name: str, environment: Environment, tasks: list[Task]) -> Report:
    """Do the arithmetic of one environment.

    Args:
        name: Name of the environment.
        environment: Its manifests and values.
        tasks: The tasks of its DAGs.

    Raises:
        ProblemError: A quantity cannot be read.
    """
    components = environment.components()
    loads: dict[str, list[Load]] = {}
    for pod, count in components:
        load = scheduling.times(scheduling.pod_load(pod.spec, environment.limits), count)
        loads.setdefault(pod.manifest.release, []).append(load)
    report = Report(
        environment=name,
        parallelism=environment.config.getint("core", "parallelism", fallback=DEFAULT_PARALLELISM),
        schedulers=environment.schedulers(),
        components={release: scheduling.add(each) for release, each in loads.items()},
        quota=environment.quota,
        sizes=[],
        default_size=environment.default_size,
        pools=environment.pools,
    )
    for pod, _ in components:
        report.errors += [f"{pod.identity}: {reason}" for reason in _never(environment, pod.spec)]
    workers = [task for task in tasks if KUBERNETES_EXECUTOR in environment.executor(task)]
    _assess_sizes(report, environment, workers)
    _assess_overrides(report, environment, workers)
    _assess_pools(report, tasks)
    _assess_quota(report)
    if not environment.shapes:
        report.warnings.append("platform.nodeShapes is empty: whether a node can take a size is not checked")
    return report


def _never(environment: Environment, spec: Object) -> list[str]:
    """Why a pod can never run: refused by LimitRange or quota as it is, or too large for every node it may go to."""
    reasons = scheduling.refused_by_limit_range(spec, environment.limits)
    reasons += scheduling.unset_for_quota(spec, environment.limits, environment.quota)
    load = scheduling.pod_load(spec, environment.limits)
    refusals = {shape.name: shape.refuses(spec, load) for shape in environment.shapes}
    if refusals and all(refusals.values()):
        reasons.append("no node can take it: " + "; ".join(f"{name} {why}" for name, why in refusals.items()))
    return reasons


def _assess_sizes(report: Report, environment: Environment, workers: list[Task]) -> None:
    templates = environment.templates()
    used = Counter(task.size or report.default_size for task in workers)
    for task in workers:
        path = task.pod_template_file
        if path and (Path(path).parent != Path(POD_TEMPLATES) or task.size not in templates):
            report.errors.append(f"task {task.identity} names the pod template {path}, which does not exist")
    if report.default_size not in templates:
        report.errors.append(
            f"[kubernetes_executor] pod_template_file names the size {report.default_size!r}, which does not exist"
        )
    for name, pod in templates.items():
        load = scheduling.pod_load(pod.spec, environment.limits)
        nodes = [shape.name for shape in environment.shapes if not shape.refuses(pod.spec, load)]
        fits = _fit(report.quota, report.fixed, load)
        report.sizes.append(Size(name, pod.spec, load, used[name], nodes if environment.shapes else None, fits))
        report.errors += [f"size {name}: {reason}" for reason in _never(environment, pod.spec)]


def _assess_overrides(report: Report, environment: Environment, workers: list[Task]) -> None:
    """A task with a pod_override is a size of its own: its `resources` replace the template's as a whole."""
    specs = {size.name: size.spec for size in report.sizes}
    for task in workers:
        spec = specs.get(task.size or report.default_size)
        if spec is None or not (task.requests or task.limits):
            continue
        base, *others = spec["containers"]
        own = base | {"resources": {"requests": task.requests, "limits": task.limits}}
        spec = spec | {"containers": [own, *others]}
        reasons = _never(environment, spec)
        if _fit(report.quota, report.fixed, scheduling.pod_load(spec, environment.limits)) == 0:
            reasons.append("the quota leaves no room for it beside the components")
        report.errors += [f"task {task.identity} (pod_override): {reason}" for reason in reasons]


def _assess_pools(report: Report, tasks: Iterable[Task]) -> None:
    for task in tasks:
        slots = report.pools.get(task.pool)
        if slots is None:
            known = ", ".join(report.pools)
            report.errors.append(
                f"task {task.identity} names the pool {task.pool!r}; dags/config/pools.yaml has {known}"
            )
        elif 0 <= slots < task.pool_slots:
            report.errors.append(
                f"task {task.identity} takes {task.pool_slots} slots of pool {task.pool}, which has {slots}"
            )


def _fit(quota: Load, fixed: Load, load: Load) -> int | None:
    """How many times a load fits into what a quota leaves; None without a quota."""
    rooms = [
        int((most - fixed.get(key, Decimal(0))) // load[key])
        for key, most in quota.items()
        if load.get(key, Decimal(0)) > 0
    ]
    return max(0, min(rooms)) if rooms else None


def _assess_quota(report: Report) -> None:
    for size in report.sizes:
        both = scheduling.add([report.fixed, size.load])
        report.errors += [
            f"quota {key} {show(key, most)} is smaller than the components and one worker of size {size.name}: "
            f"{show(key, report.fixed.get(key, Decimal(0)))} + {show(key, size.load.get(key, Decimal(0)))}"
            for key, most in report.quota.items()
            if both.get(key, Decimal(0)) > most
        ]
        if size.name == report.default_size and size.fits is not None and 0 < size.fits < report.concurrency:
            report.warnings.append(
                f"parallelism lets {report.concurrency} workers run, the quota {size.fits} of size {size.name}: "
                "further pods are refused (403) and their tasks tried again or failed"
            )
    _assess_upgrade(report)


def _assess_upgrade(report: Report) -> None:
    """During an upgrade both colours run: a warning, since it is over after minutes and needs no worker to end."""
    colour = next((load for release, load in report.components.items() if release != "airflow-platform"), {})
    both = scheduling.add([report.fixed, colour])
    report.warnings += [
        f"an upgrade runs both colours, {show(key, both[key])} {key} in all; the quota is {show(key, most)}"
        for key, most in report.quota.items()
        if both.get(key, Decimal(0)) > most
    ]


def _plain(load: Mapping[str, Decimal]) -> dict[str, str]:
    return {key: show(key, amount) for key, amount in sorted(load.items())}


def as_json(report: Report) -> dict[str, Any]:
    """The report for a script; amounts are texts as Kubernetes writes them."""
    return {
        "environment": report.environment,
        "parallelism": report.parallelism,
        "schedulers": report.schedulers,
        "concurrency": report.concurrency,
        "components": {release: _plain(load) for release, load in report.components.items()},
        "fixed": _plain(report.fixed),
        "quota": _plain(report.quota),
        "defaultSize": report.default_size,
        "sizes": {
            size.name: {"load": _plain(size.load), "tasks": size.tasks, "nodes": size.nodes, "fitsInQuota": size.fits}
            for size in report.sizes
        },
        "pools": report.pools,
        "errors": report.errors,
        "warnings": report.warnings,
    }


def _amounts(load: Load, part: str) -> list[str]:
    return [show(name, load[f"{part}.{name}"]) if f"{part}.{name}" in load else "-" for name in COMPUTE]


def _print(report: Report) -> None:
    loads = Table(
        "", "pods", "cpu", "memory", "disk", "cpu limit", "memory limit", "disk limit", title=report.environment
    )
    rows: list[tuple[str, Load]] = [*report.components.items(), ("all components", report.fixed)]
    if report.quota:
        rows.append(("quota", report.quota))
    for name, load in rows:
        pods_shown = show("pods", load["pods"]) if "pods" in load else "-"
        loads.add_row(name, pods_shown, *_amounts(load, "requests"), *_amounts(load, "limits"))
    out.print(loads)
    sizes = Table("size", "tasks", "cpu", "memory", "disk", "memory limit", "fit in quota", "nodes")
    for size in report.sizes:
        sizes.add_row(
            size.name + (" (default)" if size.name == report.default_size else ""),
            str(size.tasks),
            *_amounts(size.load, "requests"),
            _amounts(size.load, "limits")[1],
            "-" if size.fits is None else str(size.fits),
            "not known" if size.nodes is None else ", ".join(size.nodes) or "[bold red]none[/]",
        )
    out.print(sizes)
    slots = ", ".join(f"{name} {'unlimited' if count < 0 else count}" for name, count in report.pools.items())
    out.print(
        f"at once: {report.concurrency} workers (parallelism {report.parallelism} x {report.schedulers} schedulers); "
        f"pools: {slots}",
        highlight=False,
    )
    for colour, word, lines in (("bold red", "error", report.errors), ("yellow", "warning", report.warnings)):
        for line in lines:
            out.print(f"[{colour}]{word}[/] ", end="")
            out.print(line, markup=False, highlight=False)


def capacity(
    environment: Annotated[str, typer.Argument(metavar="ENV", help="dev, staging or prod: a file in values/.")],
    overlay: Annotated[list[str] | None, typer.Option(help="A file in values/overlays/; may be given again.")] = None,
    as_data: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add up components, parallelism, sizes and pools against quota, LimitRange and nodes.

    Exit 1 if something can never be scheduled. The DAGs are loaded with Airflow, so sizes are those they really use.
    """
    overlays = tuple(overlay or ())
    with progress() as bar:
        step = bar.add_task("rendering", total=2)
        manifests = render_environment(environment, overlays=overlays)
        facts = Environment(manifests, load_values(environment, overlays))
        bar.update(step, description="loading DAGs", completed=1)
        report = assess(environment, facts, load_tasks(environment, facts.executors))
    if as_data:
        typer.echo(json.dumps(as_json(report), indent=2))
    else:
        _print(report)
    if report.errors:
        raise typer.Exit(1)
