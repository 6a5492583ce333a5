"""The panels of all dashboards: one style, thresholds from the alerts, a link to the runbook."""

import re
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.models import common as settings
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from airflow_ops.monitoring.alerts import Alert, load_alerts

HOME = "airflow-prod"
"""The namespace in the files; the chart replaces it with the release's, as in the rules."""
DATASOURCE = settings.DataSourceRef(type_val="prometheus", uid="${datasource}")
LEAST = 0.001
"""Used for a threshold of 0: Grafana colours values from the threshold on, and zero is good."""

Panel = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel
SomePanel = TypeVar("SomePanel", timeseries.Panel, stat.Panel, bargauge.Panel, table.Panel)


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL; each selector is written with braces, `up{}`, to which the dashboard's namespace is added.
        legend: Name of a series, with labels in double braces.
    """

    expr: str
    legend: str = ""

    @property
    def scoped(self) -> str:
        """The expression limited to the dashboard's namespace, on one line."""
        one_line = " ".join(self.expr.split())
        alone = one_line.replace("{}", '{namespace="$namespace"}')
        return re.sub(r"\{(?!namespace=)", '{namespace="$namespace", ', alone)


@dataclass(frozen=True)
class Limit:
    """The threshold between good and bad values.

    Attributes:
        value: The number.
        low_is_bad: Whether values below it are bad, not those above.
    """

    value: float
    low_is_bad: bool = False


def rises(selector: str, window: str) -> str:
    """PromQL for how much counters of rare events rose; a series that began within the window counts with its value.

    `increase` alone is 0 for the first event of a counter. The rules do the same.
    """
    return f"(({selector} unless {selector} offset {window}) or increase({selector}[{window}]))"


def events(selector: str, window: str, legend: str = "") -> Query:
    """The number of rare events within a window, 0 where there was none; arguments as for `rises` and `Query`."""
    return Query(f"sum({rises(selector, window)}) or vector(0)", legend)


@cache
def _alerts() -> dict[str, Alert]:
    return {alert.name: alert for alert in load_alerts()}


def limit_of(alert: str) -> Limit | None:
    """The threshold of an alert; None where it compares with no number.

    Raises:
        KeyError: There is no such alert.
    """
    found = _alerts()[alert]
    if found.threshold is None:
        return None
    low = re.search(rf"< {re.escape(found.threshold)}(\s|$)", found.expr) is not None
    return Limit(float(found.threshold) or LEAST, low)


def _steps(limit: Limit | None) -> dashboards.ThresholdsConfig:
    before, after = ("red", "green") if limit and limit.low_is_bad else ("green", "red")
    steps = [models.Threshold(value=None, color=before if limit else "text")]
    if limit:
        steps.append(models.Threshold(value=limit.value, color=after))
    return dashboards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _link(alert: str, kind: str) -> dashboards.DashboardLink:
    """A link to an alert's runbook; the chart replaces docs/runbooks with platform.monitoring.runbooks."""
    link = dashboards.DashboardLink(f"{kind}: {alert}").type(models.DashboardLinkType.LINK)
    return link.url(_alerts()[alert].runbook).target_blank(True)


@dataclass(frozen=True)
class Watch:
    """The alert, runbook or threshold that belongs to a panel.

    Attributes:
        alert: The alert whose threshold is drawn and whose runbook is linked; where an environment changes the
            threshold, the chart moves the line too.
        runbook: Another alert, whose runbook helps with what the panel shows.
        limit: A threshold that does not come from an alert.
    """

    alert: str | None = None
    runbook: str | None = None
    limit: Limit | None = None

    @property
    def line(self) -> Limit | None:
        """The threshold to draw."""
        return self.limit or (limit_of(self.alert) if self.alert else None)

    @property
    def links(self) -> list[dashboards.DashboardLink]:
        """Links to the runbooks."""
        found = [_link(self.alert, "Alert")] if self.alert else []
        return found + ([_link(self.runbook, "Runbook")] if self.runbook else [])


NO_WATCH = Watch()


def _complete(
    panel: SomePanel, title: str, description: str, unit: str, queries: tuple[Query, ...], watch: Watch
) -> SomePanel:
    panel.title(title).description(description).unit(unit).datasource(DATASOURCE)
    panel.thresholds(_steps(watch.line)).links(list(watch.links))
    for query in queries:
        asked = prometheus.Dataquery().expr(query.scoped).legend_format(query.legend).datasource(DATASOURCE)
        panel.with_target(asked.range() if isinstance(panel, timeseries.Panel) else asked.instant())
    return panel


def graph(
    title: str, description: str, unit: str, *queries: Query, watch: Watch = NO_WATCH, stacked: bool = False
) -> timeseries.Panel:
    """A panel with values over time.

    Args:
        title: Its heading.
        description: What to look at, and what it means.
        unit: Grafana's name of the unit.
        queries: The queries whose series it draws.
        watch: Its threshold and runbook.
        stacked: Whether series are stacked, because together they are a whole.
    """
    panel = _complete(timeseries.Panel(), title, description, unit, queries, watch)
    panel.height(8).span(8).min(0).fill_opacity(30 if stacked else 5)
    panel.show_points(settings.VisibilityMode.NEVER)
    panel.legend(common.VizLegendOptions().show_legend(True).placement(settings.LegendPlacement.BOTTOM))
    panel.tooltip(common.VizTooltipOptions().mode(settings.TooltipDisplayMode.MULTI))
    if stacked:
        panel.stacking(common.StackingConfig().mode(settings.StackingMode.NORMAL))
    elif watch.line:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(settings.GraphThresholdsStyleMode.DASHED))
    return panel


def number(title: str, description: str, unit: str, query: Query, *, watch: Watch = NO_WATCH) -> stat.Panel:
    """A panel with one value, now or over the time that the dashboard shows; arguments as for `graph`."""
    panel = _complete(stat.Panel(), title, description, unit, (query,), watch)
    return panel.height(4).span(4).graph_mode(settings.BigValueGraphMode.NONE)


def bars(title: str, description: str, unit: str, query: Query, *, watch: Watch = NO_WATCH) -> bargauge.Panel:
    """A panel with one present value for each series; arguments as for `graph`."""
    panel = _complete(bargauge.Panel(), title, description, unit, (query,), watch)
    return panel.height(8).span(8).orientation(settings.VizOrientation.HORIZONTAL)


def listing(title: str, description: str, unit: str, query: Query, column: str) -> table.Panel:
    """A table of the series of one query, one column per label.

    Args:
        title: Its heading.
        description: What to look at, and what it means.
        unit: Unit of the value.
        query: The query whose series it lists.
        column: Heading of the value.
    """
    panel = _complete(table.Panel(), title, description, unit, (), NO_WATCH).height(8).span(8)
    asked = prometheus.Dataquery().expr(query.scoped).datasource(DATASOURCE).instant()
    panel.with_target(asked.format(prometheus_models.PromQueryFormat.TABLE))
    options = {"excludeByName": {"Time": True}, "renameByName": {"Value": column}}
    return panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=options))


def page(name: str, title: str, description: str) -> dashboards.Dashboard:
    """An empty dashboard with the variables and links that all of them have.

    Args:
        name: Its file name without suffix, which is part of its uid.
        title: Its title.
        description: The questions that it answers.
    """
    others = dashboards.DashboardLink("Airflow").type(models.DashboardLinkType.DASHBOARDS).tags([HOME])
    return (
        dashboards.Dashboard(f"{title} ({HOME})")
        .uid(f"{HOME}-{name}")
        .description(description)
        .tags(["airflow", HOME])
        .readonly()
        .refresh("1m")
        .time("now-6h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(others.as_dropdown(False).include_vars(True).keep_time(True))
        .with_variable(dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            variable("namespace", "Environment", "label_values(airflow_scheduler_heartbeat, namespace)").current(
                models.VariableOption(text=HOME, value=HOME)
            )
        )
    )


def variable(name: str, label: str, query: str) -> dashboards.QueryVariable:
    """A variable whose values come from Prometheus; `query` is Grafana's label_values(metric{...}, label)."""
    return (
        dashboards.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(DATASOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
