"""`airflow-ops dashboards`: write charts/platform/files/dashboards anew."""

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
"""Name of a file to what makes its content."""
VARIABLES = {"namespace": HOME, "dag": ".*", "price": "0.05", "__range": "6h", "__rate_interval": "1m"}
"""What stands for the dashboards' variables, and Grafana's own, outside Grafana."""


def rendered() -> dict[str, str]:
    """File name to content, of every dashboard."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{name}.json": encoder.encode(make().build()) + "\n" for name, make in DASHBOARDS.items()}


def load() -> dict[str, dict[str, Any]]:
    """Name of a dashboard to what its committed file holds."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard that show something: rows only divide."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(query: str, **values: str) -> str:
    """A query as Grafana would send it.

    Args:
        query: As a panel has it.
        **values: Of its variables; of those that are not given, `VARIABLES` has one.
    """
    return re.sub(r"\$(\w+)", lambda match: (VARIABLES | values)[match[1]], query)


def dashboards(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail where a file would change.")] = False,
) -> None:
    """Write charts/platform/files/dashboards from monitoring/dashboards and the thresholds of the alerts.

    Example: airflow-ops dashboards --check
    """
    FOLDER.mkdir(exist_ok=True)
    contents = rendered()
    changed = [name for name, text in contents.items() if _committed(name) != text]
    strangers = sorted({path.name for path in FOLDER.iterdir()} - contents.keys())
    if strangers:
        raise fail(f"{FOLDER.relative_to(ROOT)} holds {', '.join(strangers)}, which nothing makes.", "Remove it.")
    if check and changed:
        raise fail(
            f"{', '.join(changed)} in {FOLDER.relative_to(ROOT)} is not what it is made from.",
            "Run `airflow-ops dashboards` and commit.",
        )
    for name in changed:
        (FOLDER / name).write_text(contents[name])
    out.print(f"{len(contents)} dashboards, {len(changed)} changed")


def _committed(name: str) -> str | None:
    path = FOLDER / name
    return path.read_text() if path.exists() else None
