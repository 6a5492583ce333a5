"""The report of an upgrade as a file: a page with a plot of its timeline, or the same as JSON."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_ops.colours.record import Record
from airflow_ops.console import fail

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = Path(__file__).with_name("report.html")
STARTS = """
SELECT extract(epoch FROM start_date)::float FROM task_instance WHERE start_date BETWEEN '{began}' AND '{ended}'
UNION ALL
SELECT extract(epoch FROM start_date)::float FROM task_instance_history WHERE start_date BETWEEN '{began}' AND '{ended}'
ORDER BY 1 LIMIT 20000
"""
"""When tasks started meanwhile, in seconds since 1970; earlier tries of a task are in the second table."""


@dataclass(frozen=True)
class Span:
    """A stretch of time in seconds since 1970."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.ended - self.began


def span(record: Record) -> Span:
    """From the beginning of the first state to the end of the last one.

    Raises:
        ProblemError: No state has begun.
    """
    if not record.passages:
        raise fail("the upgrade has not begun yet: there is nothing to report.", "Write the report later.", 2)
    ends = [passage.ended or passage.began for passage in record.passages]
    return Span(record.passages[0].began.timestamp(), max(ends).timestamp())


def query_of_starts(record: Record) -> str:
    """SQL for the starts of tasks during an upgrade."""
    found = span(record)
    began, ended = (datetime.fromtimestamp(moment, UTC).isoformat() for moment in (found.began, found.ended))
    return STARTS.format(began=began, ended=ended)


def longest_gap(starts: list[float]) -> Span | None:
    """The longest time between two starts of tasks; None where fewer than two have started."""
    gaps = [Span(earlier, later) for earlier, later in pairwise(sorted(starts))]
    return max(gaps, key=lambda gap: gap.seconds, default=None)


def write(path: Path, environment: str, record: Record, starts: list[float]) -> None:
    """Write the report.

    Args:
        path: A file whose name ends in .html or .json.
        environment: Name of the environment.
        record: The upgrade.
        starts: When tasks started during it, in seconds since 1970.

    Raises:
        ProblemError: The name ends in something else, or the file cannot be written.
    """
    makers = {".html": page, ".json": data}
    if path.suffix not in makers:
        raise fail(f"{path} is neither .html nor .json.", "Name the report after what it should be.", 2)
    text = makers[path.suffix](environment, record, starts)
    try:
        path.write_text(text)
    except OSError as error:
        raise fail(f"{path} cannot be written: {error.strerror}.", "Give a path that can be.", 2) from error


def data(environment: str, record: Record, starts: list[float]) -> str:
    """The report as JSON: the record, and the starts of tasks."""
    gap = longest_gap(starts)
    tasks = {"starts": starts, "longest_gap_seconds": gap and round(gap.seconds, 1)}
    found = {"environment": environment, "upgrade": json.loads(record.model_dump_json()), "tasks": tasks}
    return json.dumps(found, indent=2)


def page(environment: str, record: Record, starts: list[float]) -> str:
    """The report as a page without any other file."""
    import jinja2

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        TEMPLATE.read_text()
    )
    return template.render(
        environment=environment, record=record, starts=starts, gap=longest_gap(starts), plot=plot(record, starts)
    )


def plot(record: Record, starts: list[float]) -> str:
    """The timeline as SVG: states, requests and starts of tasks, one below the other."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(3, sharex=True, height_ratios=(3, 2, 1))
    began = span(record).began
    _draw_states(axes[0], record, began)
    _draw_requests(axes[1], record, began)
    _draw_starts(axes[2], starts, began)
    axes[2].set_xlabel("seconds")
    text = StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def _draw_states(axes: "Axes", record: Record, began: float) -> None:
    for row, passage in enumerate(record.passages):
        start = passage.began.timestamp() - began
        length = (passage.ended or passage.began).timestamp() - passage.began.timestamp()
        is_forward = passage.to is record.target.colour
        axes.barh(row, max(length, 0.5), left=start, color="tab:blue" if is_forward else "tab:orange")
        said = f" {passage.state} {length:.0f} s" if passage.ended else f" {passage.state}, not ended"
        axes.text(start + max(length, 0.5), row, said, va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_yticks([])
    axes.set_ylabel("states")
    axes.margins(x=0.12)


def _draw_requests(axes: "Axes", record: Record, began: float) -> None:
    at = [bucket.at - began for bucket in record.timeline]
    axes.step(at, [bucket.worst_ms for bucket in record.timeline], where="post", color="tab:gray")
    axes.set_ylabel("slowest\nanswer (ms)")
    axes.set_ylim(bottom=0)
    for bucket in record.timeline:
        if bucket.failed:
            axes.axvline(bucket.at - began, color="tab:red")


def _draw_starts(axes: "Axes", starts: list[float], began: float) -> None:
    axes.vlines([start - began for start in starts], 0, 1, color="tab:green", linewidth=0.8)
    gap = longest_gap(starts)
    if gap:
        axes.axvspan(gap.began - began, gap.ended - began, color="tab:red", alpha=0.15)
        axes.text(
            (gap.began + gap.ended) / 2 - began, 0.5, f"{gap.seconds:.0f} s", ha="center", va="center", fontsize=8
        )
    axes.set_yticks([])
    axes.set_ylabel("starts\nof tasks")
