"""The report as one HTML file with its plots in it, so that it can be kept, mailed and opened anywhere."""

import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flights.library.report import DELAYED_MINUTES, MonthSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).parent / "report.html.j2"
BLUE, ORANGE, GREY = "#1f5f99", "#d9822b", "#5f6b7a"


def render_report(summary: MonthSummary, run_id: str) -> str:
    """The page, as text.

    Args:
        summary: What to show.
        run_id: The run that made it, for the footer.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(count=_count, share=_share, minutes=_minutes)
    return environment.from_string(TEMPLATE.read_text()).render(
        summary=summary,
        title=datetime.strptime(summary["month"], "%Y-%m").replace(tzinfo=UTC).strftime("%B %Y"),
        plots=_plots(summary),
        delayed_minutes=DELAYED_MINUTES,
        run_id=run_id,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"  # noqa: RUF001


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"  # noqa: RUF001


def _minutes(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"  # noqa: RUF001


def _plots(summary: MonthSummary) -> dict[str, str]:
    """The plots as SVG, by name."""
    departed = [row for row in summary["carriers"] if row["mean_delay"] is not None]
    plots = {
        "carriers": _draw(_carriers, sorted(departed, key=lambda row: row["mean_delay"]), height=4.6),
        "hours": _draw(_hours, [row for row in summary["hours"] if row["mean_delay"] is not None]),
        "days": _draw(_days, summary["days"]),
    }
    if any(summary["weather"].values()):
        plots["weather"] = _draw_weather(summary["weather"])
    return plots


def _draw(plot: Any, rows: Any, height: float = 3.4) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    _style(axes)
    plot(axes, rows)
    return _svg(figure, plot.__name__)


def _draw_weather(weather: dict[str, list[dict[str, Any]]]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(weather), sharey=True)
    for axes, (aspect, rows) in zip(panels, weather.items(), strict=True):
        _style(axes)
        bars = axes.bar([row["class"] for row in rows], [row["mean_delay"] or 0 for row in rows], color=BLUE, width=0.6)
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=9, color=GREY)
        axes.set_title(aspect, fontsize=10, loc="left", pad=12)
        axes.tick_params(axis="x", labelsize=8.5)
    panels[0].set_ylabel("mean delay (minutes)")
    return _svg(figure, "weather")


def _carriers(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    bars = axes.barh([row["name"] for row in rows], [row["mean_delay"] for row in rows], color=BLUE, height=0.68)
    axes.bar_label(bars, fmt="%.1f", padding=4, fontsize=9, color=GREY)
    axes.set_xlabel("mean departure delay (minutes)")
    axes.grid(axis="x", color="#e4e8ed", linewidth=0.8)
    axes.grid(visible=False, axis="y")


def _hours(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    axes.bar([row["hour"] for row in rows], [row["mean_delay"] for row in rows], color=BLUE, width=0.72)
    axes.set_xticks([row["hour"] for row in rows])
    axes.set_xlabel("hour of scheduled departure (local time)")
    axes.set_ylabel("mean delay (minutes)")


def _days(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    days = [int(row["day"][-2:]) for row in rows]
    axes.bar(days, [row["mean_delay"] or 0 for row in rows], color=BLUE, width=0.72, label="mean delay (minutes)")
    cancelled = [100 * row["cancelled"] / row["flights"] for row in rows]
    axes.plot(
        days, cancelled, color=ORANGE, marker="o", markersize=3.5, linewidth=1.6, label="cancelled (% of flights)"
    )
    axes.set_xticks(days)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("day of the month")
    axes.legend(frameon=False, fontsize=9)


def _style(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#c3cad3")
    axes.tick_params(colors=GREY, labelsize=9)
    axes.grid(axis="y", color="#e4e8ed", linewidth=0.8)
    axes.set_axisbelow(True)


def _svg(figure: "Figure", name: str) -> str:
    """The drawing as an SVG element whose ids are its own, because one page has several."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return re.sub(r'((?:\bid="|href="#|url\(#))', rf"\g<1>{name.strip('_')}-", text[text.index("<svg") :])
