"""`airflow-ops capacity`: whether everything that an environment may run can be scheduled."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import typer

from airflow_ops.checks.assessment import Demand, Report, assess
from airflow_ops.checks.scheduling import COMPUTE, Load, show
from airflow_ops.console import counted, out, progress, styled, table
from airflow_ops.console import show as print_table
from airflow_ops.dags.inspection import load_tasks
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import render_environment
from airflow_ops.options import AsJson, EnvironmentName, TrialOverlays


def _plain(load: Mapping[str, Decimal]) -> dict[str, str]:
    return {key: show(key, amount) for key, amount in sorted(load.items())}


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON; amounts are strings as Kubernetes writes them."""
    return {
        "environment": report.environment,
        "parallelism": report.parallelism,
        "schedulers": report.schedulers,
        "concurrency": report.concurrency,
        "components": {release: _plain(load) for release, load in report.components.items()},
        "fixed": _plain(report.fixed),
        "quota": _plain(report.quota),
        "taskQuota": _plain(report.task_quota),
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
    loads = table(report.environment, "pods", "cpu", "memory", "disk", "cpu limit", "memory limit", "disk limit")
    rows: list[tuple[str, Load]] = [*report.components.items(), ("all components", report.fixed)]
    if report.quota:
        rows.append(("quota", report.quota))
    if report.task_quota and not report.is_shared:
        rows.append(("quota of tasks", report.task_quota))
    for name, load in rows:
        pods_shown = show("pods", load["pods"]) if "pods" in load else "-"
        loads.add_row(name, pods_shown, *_amounts(load, "requests"), *_amounts(load, "limits"))
    print_table(loads)
    out.print()
    sizes = table("size", "tasks", "cpu", "memory", "disk", "memory limit", "fit in quota", "nodes")
    for size in report.sizes:
        sizes.add_row(
            size.name + (" (default)" if size.name == report.default_size else ""),
            str(size.tasks),
            *_amounts(size.load, "requests"),
            _amounts(size.load, "limits")[1],
            "-" if size.fits is None else str(size.fits),
            "not known" if size.nodes is None else ", ".join(size.nodes) or styled("none", "bold red"),
        )
    print_table(sizes)
    out.print()
    slots = ", ".join(f"{name} {'unlimited' if count < 0 else count}" for name, count in report.pools.items())
    out.print(
        f"at once: {counted(report.concurrency, 'worker')} "
        f"(parallelism {report.parallelism} x {counted(report.schedulers, 'scheduler')}); "
        f"pools: {slots}",
    )
    for colour, word, lines in (("bold red", "error", report.errors), ("yellow", "warning", report.warnings)):
        for line in lines:
            out.print(styled(word, colour), line)


def capacity(
    name: EnvironmentName,
    overlay: TrialOverlays = None,
    as_data: AsJson = False,
) -> None:
    """Add up components, parallelism, sizes and pools against quota, LimitRange and nodes.

    Exit 1 if something can never be scheduled. The DAGs are loaded with Airflow,
    so each task counts with the size that it really uses.

    Example: airflow-ops capacity prod --json
    """
    environment = Environment.load(name, overlay)
    with progress() as bar:
        step = bar.add_task("rendering", total=2)
        demand = Demand(render_environment(environment), environment.values)
        bar.update(step, description="loading DAGs", completed=1)
        report = assess(name, demand, load_tasks(name, demand.executors))
    if as_data:
        typer.echo(json.dumps(as_json(report), indent=2))
    else:
        _print(report)
    if report.errors:
        raise typer.Exit(1)
