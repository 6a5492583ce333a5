"""`airflow-ops validate`: the checks of an environment's manifests that need no cluster."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from airflow_ops.checks import kubernetes_schemas, rendering, values_files
from airflow_ops.checks.outcome import Outcome
from airflow_ops.console import ProblemError, fail, out, progress, show, styled, table
from airflow_ops.environments import official_chart
from airflow_ops.environments.environment import Environment, environment_names
from airflow_ops.manifests.objects import KUBERNETES_VERSIONS, PARALLEL, Manifest, parse, releases, template
from airflow_ops.options import TrialOverlays

BEFORE_RENDERING: dict[str, Callable[[Environment], Outcome]] = {
    "values": values_files.check_values,
    "helm lint": rendering.check_lint,
    "notes": rendering.check_notes,
}
RENDER, STYLE, POLICIES, POD_TEMPLATES = "render", "rendered YAML", "policies", "pod templates"
KUBERNETES = {f"Kubernetes {version.rpartition('.')[0]}": version for version in KUBERNETES_VERSIONS}
CHECKS = (*BEFORE_RENDERING, RENDER, STYLE, POLICIES, POD_TEMPLATES, *KUBERNETES)
"""The rows of the table, from top to bottom."""


@dataclass
class Rendered:
    """What Helm rendered for an environment.

    Attributes:
        texts: Release to Helm's output.
        manifests: The objects of both releases.
    """

    texts: dict[str, str] = field(default_factory=dict)
    manifests: list[Manifest] = field(default_factory=list)


class Outcomes:
    """Outcomes by check and environment; several threads write to it, each to its own key."""

    def __init__(self, advance: Callable[[], None]) -> None:
        """Start empty; `advance` is called for each outcome."""
        self._advance = advance
        self._kept: dict[tuple[str, str], Outcome] = {}

    def keep(self, check: str, environment: str, work: Callable[[], Outcome]) -> None:
        """Run a check and keep its outcome; a ProblemError counts as a breach."""
        try:
            outcome = work()
        except ProblemError as problem:
            outcome = Outcome([f"{problem.message} {problem.fix}"])
        self._kept[check, environment] = outcome
        self._advance()

    def get(self, check: str, environment: str) -> Outcome | None:
        """The outcome; None where the check did not run because the environment cannot be rendered."""
        return self._kept.get((check, environment))


def run_checks(chosen: list[Environment], crds: Path | None, advance: Callable[[], None]) -> Outcomes:
    """Run all checks of some environments, `PARALLEL` at a time.

    Args:
        chosen: The environments.
        crds: Folder of schemas of custom resources; None if there is none.
        advance: Called after each check.
    """
    outcomes = Outcomes(advance)
    rendered = {environment.name: Rendered() for environment in chosen}
    with ThreadPoolExecutor(PARALLEL) as pool:
        first = [
            pool.submit(outcomes.keep, RENDER, each.name, partial(_render, each, rendered[each.name]))
            for each in chosen
        ]
        others = [
            pool.submit(outcomes.keep, name, each.name, partial(check, each))
            for name, check in BEFORE_RENDERING.items()
            for each in chosen
        ]
        _wait(first)
        complete = [(each, rendered[each.name]) for each in chosen if rendered[each.name].manifests]
        for environment, found in complete:
            for name, work in {
                STYLE: partial(rendering.check_output_style, found.texts),
                POLICIES: partial(rendering.check_policies, environment, found.manifests),
            }.items():
                others.append(pool.submit(outcomes.keep, name, environment.name, work))
        names = [environment.name for environment, _ in complete]
        manifests = {environment.name: found.manifests for environment, found in complete}
        texts = {environment.name: found.texts for environment, found in complete}
        of_all = {POD_TEMPLATES: partial(rendering.check_pod_templates, manifests)}
        for name, version in KUBERNETES.items():
            of_all[name] = partial(kubernetes_schemas.check_kubernetes, version, texts, crds)
        others += [pool.submit(_keep_of_all, outcomes, name, names, work) for name, work in of_all.items()]
        _wait(others)
    return outcomes


def _wait(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result()


def _render(environment: Environment, rendered: Rendered) -> Outcome:
    texts, manifests = {}, []
    for release in releases(environment):
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
        outcomes.keep(check, environment, partial(replace, outcome))


def _cell(outcome: Outcome | None) -> Text:
    if outcome is None:
        return styled("not rendered", "dim")
    remarks = {"skipped": outcome.skipped, "warnings": outcome.warnings}
    skipped = "".join(f" ({len(lines)} {what})" for what, lines in remarks.items() if lines)
    verdict = styled(f"{len(outcome.breaches)} wrong", "bold red") if outcome.breaches else styled("ok", "green")
    return verdict.append(skipped, "yellow")


def _show(outcomes: Outcomes, chosen: list[str]) -> None:
    rows = table("check", *chosen)
    for check in CHECKS:
        rows.add_row(check, *(_cell(outcomes.get(check, environment)) for environment in chosen))
    show(rows)
    found = {(check, each): outcomes.get(check, each) or Outcome() for check in CHECKS for each in chosen}
    for line, where in _grouped({at: [f"{at[0]}: {one}" for one in each.breaches] for at, each in found.items()}):
        out.print(styled(where, "red"), line)
    for line, where in _grouped({at: each.warnings for at, each in found.items()}):
        out.print(styled(where, "yellow"), f"warning: {line}")
    for line, _ in _grouped({at: each.skipped for at, each in found.items()}):
        out.print(styled("skipped", "yellow"), f"{line}; give a folder of schemas with --crd-schemas")


def _grouped(lines: dict[tuple[str, str], list[str]]) -> Iterator[tuple[str, str]]:
    """Each line once, with the environments that it is about.

    Args:
        lines: By check and environment.
    """
    where: dict[str, list[str]] = {}
    for (_, environment), each in lines.items():
        for line in each:
            where.setdefault(line, []).append(environment)
    return ((line, ", ".join(dict.fromkeys(environments))) for line, environments in where.items())


def _choose(named: list[str] | None) -> list[str]:
    return environment_names() if not named or named == ["all"] else list(dict.fromkeys(named))


def validate(
    named: Annotated[
        list[str] | None, typer.Argument(metavar="ENV", help="Environments, or all, which is the default.")
    ] = None,
    overlay: TrialOverlays = None,
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

    helm lint, value schemas, kubeconform for each supported Kubernetes, yamllint,
    deprecation notes, and policies.

    Example: airflow-ops validate staging prod
    """
    if crd_schemas and not crd_schemas.is_dir():
        raise fail(f"--crd-schemas {crd_schemas} is no folder.", "Name one, or leave it out.", 2)
    chosen = _choose(named)
    environments = [Environment.load(name, overlay) for name in chosen]
    # Before the checks start: several of them read the chart's folder at the same time.
    official_chart.ensure()
    with progress() as bar:
        line = bar.add_task("validating", total=len(CHECKS) * len(chosen))
        outcomes = run_checks(environments, crd_schemas, lambda: bar.advance(line))
    _show(outcomes, chosen)
    if any((o := outcomes.get(check, e)) is None or o.breaches for check in CHECKS for e in chosen):
        raise typer.Exit(1)
