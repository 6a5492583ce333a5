"""Metrics of one replica of the Git mirror: when it last fetched from the origin, and how many refs it refuses.

Started by git_mirror.sh, in whose container it runs: git_mirror_exporter.py REPOSITORY PORT. It serves them under
/metrics to Prometheus alone (files/network.yaml): a metric that StatsD receives could come from any task.
"""

import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

PATIENCE_SECONDS = 10


class Metric(NamedTuple):
    """A gauge and how its value is read from a repository; FileNotFoundError: it has no value yet."""

    name: str
    documentation: str
    value: Callable[[Path], float]


METRICS = (
    Metric(
        "last_fetch_timestamp_seconds",
        "When what the DAGs follow was last fetched from the origin; absent before the first time.",
        lambda repository: (repository / "fetched").stat().st_mtime,
    ),
    Metric(
        "refused_refs",
        "Branches and tags of the origin that are not served.",
        lambda repository: len((repository / "refused").read_text(errors="replace").splitlines()),
    ),
)


def scrape(repository: Path) -> str:
    """All gauges that have a value, in the text format of Prometheus."""
    lines = []
    for metric in METRICS:
        name = f"airflow_git_mirror_{metric.name}"
        try:
            value = metric.value(repository)
        except FileNotFoundError:
            continue
        lines += [f"# HELP {name} {metric.documentation}", f"# TYPE {name} gauge", f"{name} {value!r}"]
    return "".join(f"{line}\n" for line in lines)


class Page(BaseHTTPRequestHandler):
    """The page /metrics of the repository that the command line names."""

    timeout = PATIENCE_SECONDS

    def do_GET(self) -> None:
        """Answer a scrape."""
        known = self.path == "/metrics"
        text = scrape(Path(sys.argv[1])) if known else "look at /metrics\n"
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing: a line for each scrape would hide what the mirror says."""


def main() -> None:
    """Serve until the end."""
    with ThreadingHTTPServer(("", int(sys.argv[2])), Page) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
