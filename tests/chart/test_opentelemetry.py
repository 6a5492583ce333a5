"""The overlay opentelemetry: Airflow that it configures sends its metrics to an OTLP receiver."""

import configparser
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from airflow_ops.paths import VALUES
from support.chart_rendering import Render

OVERLAY = yaml.safe_load((VALUES / "overlays/opentelemetry.yaml").read_text())
SEND = """
from airflow.observability.metrics import stats_utils
from airflow._shared.observability.metrics import stats
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
stats.incr("scheduler_heartbeat")
stats.gauge("pool.open_slots", 4, tags={"pool_name": "warehouse"})
stats.timing("dagrun.duration.success", 2500.0, tags={"dag_id": "flights_ingest_daily"})
"""


class Receiver:
    """An OTLP/HTTP receiver on this machine."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.metrics: dict[str, Any] = {}
        received = self.metrics

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        received.update({f"{self.path} {metric.name}": metric for metric in scope.metrics})
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def metrics(render: Render) -> dict[str, str]:
    """The section [metrics] of the configuration that components get."""
    output = render("airflow-blue", OVERLAY, "prod")
    assert output.code == 0, output.error
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(output.one("ConfigMap", "airflow-blue-config")["data"]["airflow.cfg"])
    assert not [one for one in output.objects if "statsd" in one["metadata"]["name"]]
    return dict(config["metrics"])


def test_a_process_that_ends_at_once_has_sent_its_metrics(
    metrics: dict[str, str], receiver: Receiver, tmp_path: Path
) -> None:
    own = {"otel_host": "127.0.0.1", "otel_port": str(receiver.server.server_port)}
    settings = {f"AIRFLOW__METRICS__{key.upper()}": value for key, value in (metrics | own).items()}
    done = subprocess.run(
        [sys.executable, "-c", SEND],
        env={**os.environ, **settings, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(receiver.metrics) == {
        "/v1/metrics airflow.scheduler_heartbeat",
        "/v1/metrics airflow.pool.open_slots",
        "/v1/metrics airflow.dagrun.duration.success",
    }
    (point,) = receiver.metrics["/v1/metrics airflow.pool.open_slots"].gauge.data_points
    assert {pair.key: pair.value.string_value for pair in point.attributes} == {"pool_name": "warehouse"}
    duration = receiver.metrics["/v1/metrics airflow.dagrun.duration.success"]
    assert (duration.unit, duration.WhichOneof("data")) == ("ms", "exponential_histogram")
