"""`airflow-ops alerts`: the alerts of charts/platform, what each looks at and where its runbook is."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table

from airflow_ops.console import fail, out
from airflow_ops.repository import CHARTS, ROOT

RULES = CHARTS / "platform/files/rules"


class Action(StrEnum):
    """What to do with alerts."""

    LIST = "list"
    EXPLAIN = "explain"


@dataclass(frozen=True)
class Alert:
    """One alert as its rule file has it, before platform.monitoring.alerts of an environment.

    Attributes:
        name: Its name.
        severity: page (somebody gets up) or ticket.
        component: The part of the platform that it is about.
        wait: How long its condition must hold, as Prometheus writes it; "0s" where it fires at once.
        threshold: What its expression compares with; None where it compares with nothing.
        summary: What it says, in a sentence.
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
    """Every alert of charts/platform/files/rules, by file and in its order there."""
    contents = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yaml"))]
    rules = [rule for content in contents for group in content["groups"] for rule in group["rules"]]
    return [_alert(rule) for rule in rules if "alert" in rule]


def _table(found: list[Alert]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("alert", min_width=max(len(alert.name) for alert in found))
    for heading in ("severity", "component", "for", "threshold", "summary"):
        table.add_column(heading)
    for alert in found:
        colour = "red" if alert.severity == "page" else "default"
        severity = f"[{colour}]{alert.severity}[/]"
        table.add_row(alert.name, severity, alert.component, alert.wait, alert.threshold or "", alert.summary)
    return table


def _find(name: str | None) -> Alert:
    found = {alert.name.lower(): alert for alert in load_alerts()}
    if name is None:
        raise fail("alerts explain needs the name of an alert.", "Take one from `airflow-ops alerts list`.", 2)
    wanted = name.lower()
    if wanted not in found:
        raise fail(f"there is no alert {name}.", "Take one from `airflow-ops alerts list`.", 2)
    return found[wanted]


def _explain(alert: Alert) -> None:
    out.print(f"[bold]{alert.name}[/] {alert.summary}")
    threshold = "" if alert.threshold is None else f", threshold {alert.threshold}"
    out.print(f"{alert.severity}, {alert.component}, for {alert.wait}{threshold}\n", highlight=False)
    out.print(alert.expr, markup=False, highlight=False)
    page = (ROOT / alert.runbook).read_text()
    out.print("\n" + page.partition("\n")[2].strip(), markup=False, highlight=False)


def alerts(
    action: Annotated[Action, typer.Argument(help="`list`: all of them; `explain`: one, with its runbook.")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The alert to explain.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Show the alerts of charts/platform, before what an environment changes in platform.monitoring.alerts."""
    chosen = load_alerts() if action is Action.LIST else [_find(name)]
    if as_json:
        out.print_json(json.dumps([asdict(alert) for alert in chosen]))
    elif action is Action.LIST:
        out.print(_table(chosen))
    else:
        _explain(chosen[0])
