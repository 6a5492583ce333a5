"""`airflow-ops dashboards`: generate charts/platform/files/dashboards."""

import json
import re
from typing import Annotated, Any

import typer
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from airflow_ops.console import fail, out
from airflow_ops.monitoring.dashboards import dags, overview, scheduler, workers
from airflow_ops.monitoring.dashboards.panels import HOME
from airflow_ops.paths import CHARTS, ROOT

FOLDER = CHARTS / "platform/files/dashboards"
DASHBOARDS = {
    "overview": overview.dashboard,
    "scheduler": scheduler.dashboard,
    "dags": dags.dashboard,
    "workers": workers.dashboard,
}
"""Name of a file to the function that makes its dashboard."""
VARIABLES = {"namespace": HOME, "dag": ".*", "price": "0.05", "__range": "6h", "__rate_interval": "1m"}
"""Values for the variables of dashboards and of Grafana, to run their queries outside Grafana."""


def rendered() -> dict[str, str]:
    """File name of every dashboard to its content."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{name}.json": encoder.encode(make().build()) + "\n" for name, make in DASHBOARDS.items()}


def load() -> dict[str, dict[str, Any]]:
    """Name of a dashboard to the content of its committed file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard, without rows, which only separate them."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(query: str, **values: str) -> str:
    """A query with its variables replaced, as Grafana would send it.

    Args:
        query: The query of a panel.
        **values: Values of variables; `VARIABLES` has those that are not given.
    """
    return re.sub(r"\$(\w+)", lambda match: (VARIABLES | values)[match[1]], query)


def dashboards(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail where a file would change.")] = False,
) -> None:
    """Generate charts/platform/files/dashboards from monitoring/dashboards and the thresholds of the alerts.

    Example: airflow-ops dashboards --check
    """
    FOLDER.mkdir(exist_ok=True)
    contents = rendered()
    changed = [name for name, text in contents.items() if _committed(name) != text]
    unknown = sorted({path.name for path in FOLDER.iterdir()} - contents.keys())
    if unknown:
        raise fail(f"{FOLDER.relative_to(ROOT)} has {', '.join(unknown)}, which no dashboard generates.", "Remove it.")
    if check and changed:
        raise fail(
            f"{', '.join(changed)} in {FOLDER.relative_to(ROOT)} is out of date.",
            "Run `airflow-ops dashboards` and commit its changes.",
        )
    for name in changed:
        (FOLDER / name).write_text(contents[name])
    out.print(f"{len(contents)} dashboards, {len(changed)} changed")


def _committed(name: str) -> str | None:
    path = FOLDER / name
    return path.read_text() if path.exists() else None
