"""`airflow-ops alerts`: list and explain the alerts of charts/platform, and test them against a live Prometheus."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from pydantic import BaseModel, TypeAdapter
from rich.table import Table

from airflow_ops.cluster.connection import connect
from airflow_ops.console import ProblemError, command_group, counted, fail, out, progress, show, styled, table
from airflow_ops.environments.configuration import read_checked
from airflow_ops.environments.environment import Environment
from airflow_ops.monitoring import prometheus
from airflow_ops.monitoring.alert_routing import routing
from airflow_ops.monitoring.live_rules import LiveRule, check_rules, rules_of
from airflow_ops.options import AsJson, EnvironmentName, TrialOverlays
from airflow_ops.paths import CHARTS, ROOT

RULES = CHARTS / "platform/files/rules"

app = command_group(
    "alerts", "The alerts of charts/platform: list and explain them, and test them against a live Prometheus."
)
app.command("routing")(routing)


class Group(BaseModel):
    """A group of a rule file."""

    rules: list[dict[str, Any]]


class RuleFile(BaseModel):
    """A file of the folder `RULES`."""

    groups: list[Group]


RULE_FILE = TypeAdapter(RuleFile)


@dataclass(frozen=True)
class Alert:
    """One alert from its rule file, without the changes of an environment (platform.monitoring.alerts).

    Attributes:
        name: Its name.
        severity: page (somebody is called, day or night) or ticket.
        component: The part of the platform that it is about.
        wait: How long its condition must hold, in Prometheus' notation; "0s" where it fires at once.
        threshold: The number that its expression compares with; None where it compares with none.
        summary: Its summary, one sentence.
        expr: Its PromQL expression.
        runbook: Its runbook, relative to the checkout.
    """

    name: str
    severity: str
    component: str
    wait: str
    threshold: str | None
    summary: str
    expr: str
    runbook: str


def _alert(rule: dict[str, Any]) -> Alert:
    annotations = rule["annotations"]
    return Alert(
        name=rule["alert"],
        severity=rule["labels"]["severity"],
        component=rule["labels"]["component"],
        wait=rule.get("for", "0s"),
        threshold=annotations.get("threshold"),
        summary=annotations["summary"],
        expr=rule["expr"],
        runbook=annotations["runbook_url"],
    )


def load_alerts() -> list[Alert]:
    """Every alert of charts/platform/files/rules, in the order of files and rules."""
    shape = "A rule file has groups, each with rules."
    contents = [read_checked(path, path.relative_to(ROOT), RULE_FILE, shape) for path in sorted(RULES.glob("*.yaml"))]
    rules = [rule for content in contents for group in content.groups for rule in group.rules]
    return [_alert(rule) for rule in rules if "alert" in rule]


def _table(found: list[Alert]) -> Table:
    made = table("alert", "severity", "component", "for", "threshold", "summary")
    for alert in found:
        colour = "red" if alert.severity == "page" else "default"
        severity = styled(alert.severity, colour)
        made.add_row(alert.name, severity, alert.component, alert.wait, alert.threshold or "", alert.summary)
    return made


def _find(name: str) -> Alert:
    found = {alert.name.lower(): alert for alert in load_alerts()}
    wanted = name.lower()
    if wanted not in found:
        raise fail(f"there is no alert {name!r}.", "`airflow-ops alerts list` shows all alerts.", 2)
    return found[wanted]


def _explain(alert: Alert) -> None:
    out.print(styled(alert.name, "bold"), alert.summary)
    threshold = "" if alert.threshold is None else f", threshold {alert.threshold}"
    out.print(f"{alert.severity}, {alert.component}, for {alert.wait}{threshold}\n")
    out.print(alert.expr)
    page = (ROOT / alert.runbook).read_text()
    out.print("\n" + page.partition("\n")[2].strip())


@app.command("list")
def list_alerts(as_json: AsJson = False) -> None:
    """List all alerts, without the changes of an environment (platform.monitoring.alerts).

    Example: airflow-ops alerts list --json
    """
    found = load_alerts()
    if as_json:
        out.print_json(json.dumps([asdict(alert) for alert in found]))
    else:
        show(_table(found))


@app.command("explain")
def explain_alert(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `airflow-ops alerts list`.")],
    as_json: AsJson = False,
) -> None:
    """Show one alert: its expression and its runbook.

    Example: airflow-ops alerts explain AirflowQueueDeep
    """
    alert = _find(name)
    if as_json:
        out.print_json(json.dumps([asdict(alert)]))
    else:
        _explain(alert)


@contextmanager
def _reach(environment: Environment, url: str) -> Iterator[prometheus.Prometheus]:
    if url:
        yield prometheus.Prometheus(url)
    else:
        with prometheus.connect(connect(environment)) as found:
            yield found


def _wanted_rules(environment: Environment) -> list[dict[str, Any]]:
    """The rules of an environment, without the alerts that it disables."""
    own = environment.values["platform"]["monitoring"]["alerts"]
    rules = rules_of(environment.namespace, [path.read_text() for path in sorted(RULES.glob("*.yaml"))])
    return [rule for rule in rules if own.get(rule.get("alert"), {}).get("enabled", True)]


def _print(found: list[LiveRule]) -> None:
    for rule in found:
        if rule.error:
            out.print(styled("error", "red"), f"{rule.name}: {rule.error}")
        for one in rule.unseen:
            word = styled("event", "yellow") if one.event else styled("missing", "red")
            waits = f"; it needs {one.event}" if one.event else ""
            out.print(word, f"{rule.name}: {one.why}  {one.selector}{waits}")
    for state, colour in (("firing", "red"), ("pending", "yellow")):
        for rule in found:
            if rule.state == state:
                out.print(styled(state, colour), rule.name)
    if not_loaded := sorted({rule.name for rule in found if not rule.loaded}):
        out.print(styled("not loaded", "red"), ", ".join(not_loaded))
    counts = {
        "do not evaluate": sum(bool(rule.error) for rule in found),
        "read missing series": sum(bool(rule.missing) for rule in found),
        "wait for an event": sum(bool(rule.unseen) and not rule.missing for rule in found),
        "not loaded": sum(not rule.loaded for rule in found),
        "firing": sum(rule.state == "firing" for rule in found),
        "pending": sum(rule.state == "pending" for rule in found),
    }
    summary = ", ".join(f"{number} {what}" for what, number in counts.items())
    out.print(f"{counted(len(found), 'rule')}: {summary}")


@app.command("test")
def ask_prometheus(
    name: EnvironmentName,
    url: Annotated[
        str, typer.Option(help="URL of the Prometheus; by default the one on the cluster that loads ENV's rules.")
    ] = "",
    overlay: TrialOverlays = None,
    as_json: AsJson = False,
) -> None:
    """Check every rule on a live Prometheus: does it evaluate, do its series exist, is it loaded, does it fire.

    A metric, label or value that a rule reads must exist, unless
    charts/platform/files/metrics lists an event that has to happen first.
    The variable PROMETHEUS_TOKEN may contain a bearer token.

    Exit 0 if every rule evaluates, finds its series and is loaded, even if alerts
    fire; 1 if not; 2 if there is no Prometheus to ask.

    Example: airflow-ops alerts test prod --url https://prometheus.example.com
    """
    environment = Environment.load(name, overlay)
    rules = _wanted_rules(environment)
    try:
        with progress() as bar, _reach(environment, url) as found:
            bar.add_task(f"asking {found.url}", total=None)
            live = check_rules(found, environment.namespace, rules)
    except ProblemError as problem:
        problem.exit_code = 2
        raise
    if as_json:
        out.print_json(json.dumps([rule.as_dict() for rule in live]))
    else:
        _print(live)
    if any(rule.error or rule.missing or not rule.loaded for rule in live):
        raise typer.Exit(1)
