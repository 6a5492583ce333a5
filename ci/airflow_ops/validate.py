"""`airflow-ops validate`: what can be known about an environment's manifests without a cluster."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from airflow_ops import checks, deps
from airflow_ops.checks import Outcome
from airflow_ops.console import ProblemError, fail, out, progress
from airflow_ops.manifests import KUBERNETES_VERSIONS, PARALLEL, Manifest, parse, releases, template
from airflow_ops.repository import ROOT
from airflow_ops.values import environments

CRD_SCHEMAS = ROOT.parent / "shared/schemas/crds"
"""Where custom resources' schemas are looked for, beside the checkout; laid out GROUP/KIND_VERSION.json."""

BEFORE_RENDERING: dict[str, Callable[[str, tuple[str, ...]], Outcome]] = {
    "values": checks.check_values,
    "helm lint": checks.check_lint,
    "notes": checks.check_notes,
}
RENDER, STYLE, POLICIES, POD_TEMPLATES = "render", "rendered YAML", "policies", "pod templates"
KUBERNETES = {f"Kubernetes {version.rpartition('.')[0]}": version for version in KUBERNETES_VERSIONS}
CHECKS = (*BEFORE_RENDERING, RENDER, STYLE, POLICIES, POD_TEMPLATES, *KUBERNETES)
"""The rows of the table, top down."""


@dataclass
class Rendered:
    """What Helm made of an environment.

    Attributes:
        texts: Release to what Helm printed.
        manifests: The objects of both.
    """

    texts: dict[str, str] = field(default_factory=dict)
    manifests: list[Manifest] = field(default_factory=list)


class Outcomes:
    """Outcomes by check and environment; several threads write to it, each to a place of its own."""

    def __init__(self, advance: Callable[[], None]) -> None:
        """Start empty; `advance` is called for each outcome."""
        self._advance = advance
        self._kept: dict[tuple[str, str], Outcome] = {}

    def keep(self, check: str, environment: str, work: Callable[[], Outcome]) -> None:
        """Do a check and keep its outcome; an error that the user can mend is one."""
        try:
            outcome = work()
        except ProblemError as problem:
            outcome = Outcome([f"{problem.message} {problem.fix}"])
        self._kept[check, environment] = outcome
        self._advance()

    def get(self, check: str, environment: str) -> Outcome | None:
        """The outcome; None where the check had nothing to look at because the environment does not render."""
        return self._kept.get((check, environment))


def run_checks(
    chosen: list[str], overlays: tuple[str, ...], crds: Path | None, advance: Callable[[], None]
) -> Outcomes:
    """Run all checks of some environments, a few at a time.

    Args:
        chosen: Names of environments.
        overlays: Names of files in values/overlays/, over each of them.
        crds: Folder of schemas of custom resources; None if there is none.
        advance: Called after each check.
    """
    outcomes = Outcomes(advance)
    rendered = {environment: Rendered() for environment in chosen}
    with ThreadPoolExecutor(PARALLEL) as pool:
        first = [
            pool.submit(
                outcomes.keep, RENDER, environment, partial(_render, environment, overlays, rendered[environment])
            )
            for environment in chosen
        ]
        others = [
            pool.submit(outcomes.keep, name, environment, partial(check, environment, overlays))
            for name, check in BEFORE_RENDERING.items()
            for environment in chosen
        ]
        _wait(first)
        complete = {environment: found for environment, found in rendered.items() if found.manifests}
        for environment, found in complete.items():
            for name, work in {
                STYLE: partial(checks.check_output_style, found.texts),
                POLICIES: partial(checks.check_policies, found.manifests),
            }.items():
                others.append(pool.submit(outcomes.keep, name, environment, work))
        manifests = {environment: found.manifests for environment, found in complete.items()}
        texts = {environment: found.texts for environment, found in complete.items()}
        of_all = {POD_TEMPLATES: partial(checks.check_pod_templates, manifests)}
        of_all |= {name: partial(checks.check_kubernetes, version, texts, crds) for name, version in KUBERNETES.items()}
        others += [pool.submit(_keep_of_all, outcomes, name, [*complete], work) for name, work in of_all.items()]
        _wait(others)
    return outcomes


def _wait(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result()


def _render(environment: str, overlays: tuple[str, ...], rendered: Rendered) -> Outcome:
    texts, manifests = {}, []
    for release in releases(environment, overlays=overlays):
        texts[release.name] = template(release)
        manifests += parse(release, texts[release.name])
    rendered.texts, rendered.manifests = texts, manifests
    return Outcome()


def _keep_of_all(
    outcomes: Outcomes, check: str, environments: list[str], work: Callable[[], dict[str, Outcome]]
) -> None:
    """Do a check that looks at all environments at once, and keep the outcome of each."""
    if not environments:
        return
    try:
        found = work()
    except ProblemError as problem:
        found = {environment: Outcome([f"{problem.message} {problem.fix}"]) for environment in environments}
    for environment, outcome in found.items():
        outcomes.keep(check, environment, partial(Outcome, outcome.breaches, outcome.skipped))


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "[dim]not rendered[/]"
    skipped = f" [yellow]({len(outcome.skipped)} skipped)[/]" if outcome.skipped else ""
    return (f"[bold red]{len(outcome.breaches)} wrong[/]" if outcome.breaches else "[green]ok[/]") + skipped


def _show(outcomes: Outcomes, chosen: list[str]) -> None:
    table = Table("check", *chosen)
    for check in CHECKS:
        table.add_row(check, *(_cell(outcomes.get(check, environment)) for environment in chosen))
    out.print(table)
    breaches: dict[tuple[str, str], list[str]] = {}
    skipped: dict[str, None] = {}
    for check in CHECKS:
        for environment in chosen:
            outcome = outcomes.get(check, environment) or Outcome()
            skipped |= dict.fromkeys(outcome.skipped)
            for breach in outcome.breaches:
                breaches.setdefault((check, breach), []).append(environment)
    for (check, breach), where in breaches.items():
        out.print(f"[red]{', '.join(where)}[/] {check}: ", end="", highlight=False)
        out.print(breach, markup=False, highlight=False)
    for line in skipped:
        out.print(f"[yellow]skipped[/] {line}; give a folder of schemas with --crd-schemas", highlight=False)


def _choose(named: list[str] | None) -> list[str]:
    known = environments()
    if not named or named == ["all"]:
        return known
    for environment in named:
        if environment not in known:
            raise fail(f"environment {environment!r} does not exist.", f"Use all, or some of {', '.join(known)}.", 2)
    return list(dict.fromkeys(named))


def validate(
    named: Annotated[
        list[str] | None, typer.Argument(metavar="[ENV]...", help="Environments, or all, which is the default.")
    ] = None,
    overlay: Annotated[list[str] | None, typer.Option(help="A file in values/overlays/; may be given again.")] = None,
    crd_schemas: Annotated[
        Path | None,
        typer.Option(
            envvar="AIRFLOW_OPS_CRD_SCHEMAS",
            help="Folder of custom resources' schemas, laid out as github.com/datreeio/CRDs-catalog.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Check values and manifests of environments without a cluster; exit 1 if anything is wrong.

    helm lint, value schemas, kubeconform for each supported Kubernetes, yamllint, deprecation notes, and policies.
    """
    chosen = _choose(named)
    if crd_schemas is None and CRD_SCHEMAS.is_dir():
        crd_schemas = CRD_SCHEMAS
    # Before any check looks into the chart's folder: several do at once.
    deps.ensure()
    with progress() as bar:
        line = bar.add_task("validating", total=len(CHECKS) * len(chosen))
        outcomes = run_checks(chosen, tuple(overlay or ()), crd_schemas, lambda: bar.advance(line))
    _show(outcomes, chosen)
    if any((o := outcomes.get(check, e)) is None or o.breaches for check in CHECKS for e in chosen):
        raise typer.Exit(1)
