"""The real StatsD exporter, with the mapping of values/base.yaml."""

import csv
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from airflow_ops.monitoring.metrics import LISTS
from airflow_ops.paths import VALUES

TYPES = {"counter": "c", "gauge": "g", "summary": "ms", "histogram": "ms"}
Series = tuple[str, frozenset[tuple[str, str]]]


def known_metrics() -> dict[str, dict[str, str]]:
    """Metric to its row of metrics.tsv: what is scraped, what Airflow sends for it, and the event that it needs."""
    with (LISTS / "metrics.tsv").open() as file:
        return {row["metric"]: row for row in csv.DictReader(file, delimiter="\t")}


def listed(text: str) -> list[str]:
    """The items of a cell."""
    return [] if text == "-" else text.split(",")


def line(row: dict[str, str], **values: str) -> str:
    """A metric as Airflow sends it with statsd_influxdb_enabled."""
    tags = "".join(f",{tag}={values.get(tag, tag)}" for tag in listed(row["tags"]))
    kind = "gauge" if row["type"] == "dropped" else row["type"]
    return f"airflow.{row['sent_as']}{tags}:1|{TYPES[kind]}"


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Exporter:
    """A running exporter: takes lines as Airflow sends them, and is scraped."""

    def __init__(self, statsd: int, web: int) -> None:
        """Keep the ports of the two sides."""
        self.statsd, self.web = statsd, web

    def send(self, lines: Iterable[str]) -> None:
        """Hand lines over and wait until the last one is counted. By TCP, which loses none."""
        with socket.create_connection(("127.0.0.1", self.statsd)) as connection:
            connection.sendall("".join(f"{line}\n" for line in [*lines, "the.end:1|c"]).encode())
        for _ in range(600):
            if "the_end 1" in self.scrape_text():
                return
            time.sleep(0.1)
        raise AssertionError("the exporter did not count the last line")

    def scrape_text(self) -> str:
        """What Prometheus would get."""
        return httpx.get(f"http://127.0.0.1:{self.web}/metrics", timeout=30).text

    def scrape(self) -> set[Series]:
        """Airflow's series, without labels that are empty: Prometheus drops those."""
        found = set()
        for name, labels in re.findall(r"^(airflow_\w+)(?:\{(.*)\})? \S+$", self.scrape_text(), re.MULTILINE):
            pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)
            found.add((name, frozenset((key, value) for key, value in pairs if value)))
        return found


@contextmanager
def running_exporter(folder: Path) -> Iterator[Exporter]:
    """An exporter that runs as in the chart's Deployment, on ports of its own."""
    program = shutil.which("statsd_exporter")
    assert program is not None
    values = yaml.safe_load((VALUES / "base.yaml").read_text())["airflow"]["statsd"]
    mapping = folder / "mappings.yml"
    mapping.write_text(
        yaml.safe_dump({"mappings": values["overrideMappings"], "defaults": {"ttl": values["cache"]["ttl"]}})
    )
    statsd, web = free_ports(2)
    command = [program, f"--statsd.mapping-config={mapping}", "--statsd.listen-udp="]
    command += [f"--statsd.listen-tcp=127.0.0.1:{statsd}", f"--web.listen-address=127.0.0.1:{web}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(100):
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                try:
                    httpx.get(f"http://127.0.0.1:{web}/metrics", timeout=1)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield Exporter(statsd, web)
        finally:
            process.kill()
