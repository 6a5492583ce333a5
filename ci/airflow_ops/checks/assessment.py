"""The arithmetic of `capacity`: components, sizes, pools and parallelism against quota, LimitRange and nodes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from airflow_ops.checks import scheduling
from airflow_ops.checks.scheduling import LimitRange, Load, NodeShape, show
from airflow_ops.dags.facts import POD_TEMPLATES, Task
from airflow_ops.environments.pools import load_pools
from airflow_ops.environments.values import Values
from airflow_ops.manifests.objects import Manifest, Object, Pod, airflow_config, pods

DEFAULT_PARALLELISM = 32
"""Airflow 3.3.2, [core] parallelism: task instances at once, per scheduler and executor."""

DEFAULT_POOL_SLOTS = 128
"""Airflow 3.3.2, [core] default_pool_task_slot_count."""

KUBERNETES_EXECUTOR = "KubernetesExecutor"


@dataclass(frozen=True)
class Size:
    """One worker size, from its pod template.

    Attributes:
        name: Its name in dags/config/sizes.yaml.
        spec: The spec of the rendered pod template.
        load: Requests and limits of one worker.
        tasks: How many tasks of the DAGs use it.
        nodes: Names of the node shapes that one worker fits on; None where no shapes are known.
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
        environment: Name of the environment.
        parallelism: Task instances at once, per scheduler.
        schedulers: Replicas of the scheduler.
        components: Release to the load of all its pods but the workers.
        quota: Hard limits of what counts components; empty without a quota.
        task_quota: Hard limits of what counts workers.
        is_shared: Whether one quota counts both.
        sizes: The worker sizes.
        default_size: The size of a task that names none.
        pools: Pool to slots; -1 means no limit.
        errors: What can never be scheduled, one line each.
        warnings: What cannot all run at the same time.
    """

    environment: str
    parallelism: int
    schedulers: int
    components: dict[str, Load]
    quota: Load
    task_quota: Load
    is_shared: bool
    sizes: list[Size]
    default_size: str
    pools: dict[str, int]
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def concurrency(self) -> int:
        """The most workers that can run at the same time: parallelism counts per scheduler."""
        return self.parallelism * self.schedulers

    @property
    def fixed(self) -> Load:
        """The load of everything except workers."""
        return scheduling.add(self.components.values())

    @property
    def beside(self) -> Load:
        """What counts towards the workers' quota beside them."""
        return self.fixed if self.is_shared else {}


class Demand:
    """The resources that an environment asks for, and its quota, limits and nodes."""

    def __init__(self, manifests: list[Manifest], values: Values) -> None:
        """Read manifests and values.

        Raises:
            ProblemError: A quantity cannot be read, or the official chart's configuration is missing.
        """
        self.manifests = manifests
        self.limits = LimitRange.read(m.object for m in manifests if m.kind == "LimitRange")
        self.quotas = [m.object for m in manifests if m.kind == "ResourceQuota"]
        self.config = airflow_config(manifests)
        platform = values.get("platform") or {}
        self.shapes = [NodeShape.read(shape) for shape in platform.get("nodeShapes") or []]
        default_slots = self.config.getint("core", "default_pool_task_slot_count", fallback=DEFAULT_POOL_SLOTS)
        self.pools = {"default_pool": default_slots} | {name: int(pool["slots"]) for name, pool in load_pools().items()}

    @property
    def executors(self) -> str:
        """The value of [core] executor: the executors separated by commas, the default one first."""
        return self.config.get("core", "executor")

    @property
    def default_size(self) -> str:
        """The size of a task that names none, from [kubernetes_executor] pod_template_file."""
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
        """Every pod except workers with its highest count: an autoscaler's maximum, a Job's parallelism."""
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

    def quotas_of(self, specs: Iterable[Object]) -> list[Object]:
        """The ResourceQuotas that count one of some pods."""
        listed = list(specs)
        return [quota for quota in self.quotas if any(scheduling.counts(quota, spec) for spec in listed)]

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


def assess(name: str, demand: Demand, tasks: list[Task]) -> Report:
    """Compare what one environment asks for with its quota, limits and nodes.

    Args:
        name: Name of the environment.
        demand: Its manifests and values.
        tasks: The tasks of its DAGs.

    Raises:
        ProblemError: A quantity cannot be read.
    """
    components = demand.components()
    loads: dict[str, list[Load]] = {}
    for pod, count in components:
        load = scheduling.times(scheduling.pod_load(pod.spec, demand.limits), count)
        loads.setdefault(pod.manifest.release, []).append(load)
    own = demand.quotas_of(pod.spec for pod, _ in components)
    of_tasks = demand.quotas_of(pod.spec for pod in demand.templates().values())
    report = Report(
        environment=name,
        parallelism=demand.config.getint("core", "parallelism", fallback=DEFAULT_PARALLELISM),
        schedulers=demand.schedulers(),
        components={release: scheduling.add(each) for release, each in loads.items()},
        quota=scheduling.read_quota(own),
        task_quota=scheduling.read_quota(of_tasks),
        is_shared=any(quota in own for quota in of_tasks),
        sizes=[],
        default_size=demand.default_size,
        pools=demand.pools,
    )
    for pod, _ in components:
        report.errors += [f"{pod.identity}: {reason}" for reason in _unschedulable(demand, pod.spec)]
    workers = [task for task in tasks if KUBERNETES_EXECUTOR in demand.executor(task)]
    _assess_sizes(report, demand, workers)
    _assess_overrides(report, demand, workers)
    _assess_pools(report, tasks)
    _assess_quota(report)
    if not demand.shapes:
        report.warnings.append("platform.nodeShapes is empty: whether a size fits on a node is not checked")
    return report


def _unschedulable(demand: Demand, spec: Object) -> list[str]:
    """Why a pod can never run: a LimitRange or a quota refuses it, or no node that it may use is large enough."""
    reasons = scheduling.refused_by_limit_range(spec, demand.limits)
    reasons += scheduling.unset_for_quota(spec, demand.limits, scheduling.read_quota(demand.quotas_of([spec])))
    load = scheduling.pod_load(spec, demand.limits)
    refusals = {shape.name: shape.refuses(spec, load) for shape in demand.shapes}
    if refusals and all(refusals.values()):
        reasons.append("it fits on no node: " + "; ".join(f"{name} {why}" for name, why in refusals.items()))
    return reasons


def _assess_sizes(report: Report, demand: Demand, workers: list[Task]) -> None:
    templates = demand.templates()
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
        load = scheduling.pod_load(pod.spec, demand.limits)
        nodes = [shape.name for shape in demand.shapes if not shape.refuses(pod.spec, load)]
        fits = _fit(report.task_quota, report.beside, load)
        report.sizes.append(Size(name, pod.spec, load, used[name], nodes if demand.shapes else None, fits))
        report.errors += [f"size {name}: {reason}" for reason in _unschedulable(demand, pod.spec)]


def _assess_overrides(report: Report, demand: Demand, workers: list[Task]) -> None:
    """Check each task with a pod_override as a size of its own: its `resources` replace all those of the template."""
    specs = {size.name: size.spec for size in report.sizes}
    for task in workers:
        spec = specs.get(task.size or report.default_size)
        if spec is None or not (task.requests or task.limits):
            continue
        base, *others = spec["containers"]
        own = base | {"resources": {"requests": task.requests, "limits": task.limits}}
        spec = spec | {"containers": [own, *others]}
        reasons = _unschedulable(demand, spec)
        if _fit(report.task_quota, report.beside, scheduling.pod_load(spec, demand.limits)) == 0:
            reasons.append("the quota leaves no room for it")
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
    """How many times a load fits into the rest of a quota; None without a quota."""
    counts = [
        int((most - fixed.get(key, Decimal(0))) // load[key])
        for key, most in quota.items()
        if load.get(key, Decimal(0)) > 0
    ]
    return max(0, min(counts)) if counts else None


def _assess_quota(report: Report) -> None:
    report.errors += [
        f"quota {key} {show(key, most)} is smaller than the components: {show(key, report.fixed[key])}"
        for key, most in report.quota.items()
        if report.fixed.get(key, Decimal(0)) > most
    ]
    for size in report.sizes:
        both = scheduling.add([report.beside, size.load])
        report.errors += [
            f"quota {key} {show(key, most)} is smaller than what runs beside workers and one of size {size.name}: "
            f"{show(key, report.beside.get(key, Decimal(0)))} + {show(key, size.load.get(key, Decimal(0)))}"
            for key, most in report.task_quota.items()
            if both.get(key, Decimal(0)) > most
        ]
        if report.is_shared and size.fits is not None and size.fits < report.concurrency:
            report.errors.append(
                f"{size.fits} workers of size {size.name} fill the quota, parallelism allows {report.concurrency}, and "
                "then no component that ends can start again: give tasks a quota of their own (platform.quota.tasks)"
            )
        if size.name == report.default_size and size.fits is not None and 0 < size.fits < report.concurrency:
            report.warnings.append(
                f"parallelism allows {report.concurrency} workers, the quota only {size.fits} of size {size.name}: "
                "further pods are refused (403), and their tasks are retried or fail"
            )
    _assess_upgrade(report)


def _assess_upgrade(report: Report) -> None:
    """Warn where both colours exceed the quota. No error, because an upgrade takes minutes and needs no worker."""
    colour = next((load for release, load in report.components.items() if release != "airflow-platform"), {})
    both = scheduling.add([report.fixed, colour])
    report.warnings += [
        f"an upgrade runs both colours and needs {show(key, both[key])} {key}; the quota is {show(key, most)}"
        for key, most in report.quota.items()
        if both.get(key, Decimal(0)) > most
    ]
