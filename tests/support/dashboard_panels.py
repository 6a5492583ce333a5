"""The panels of all dashboards."""

from dataclasses import dataclass
from typing import Any

from airflow_ops.monitoring.dashboards.command import load, panels


@dataclass(frozen=True)
class Shown:
    """A panel and the dashboard that it is on."""

    dashboard: str
    panel: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel['title']}"

    @property
    def queries(self) -> list[str]:
        """What it asks, with variables."""
        return [target["expr"] for target in self.panel["targets"]]


def shown() -> list[Shown]:
    """Every panel of every dashboard."""
    return [Shown(name, panel) for name, content in load().items() for panel in panels(content)]
