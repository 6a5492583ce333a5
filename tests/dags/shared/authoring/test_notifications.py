"""What is sent to whom, seen at the other end of the wire; and that a message never changes how a task ends."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pagerduty
import pytest
from airflow.models.dagrun import DagRun
from airflow.sdk.log import mask_secret

from shared.authoring.notifications import log_retry, notify_failure, notify_run_failure, notify_success
from shared.authoring.settings import settings

Received = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """What Slack and PagerDuty were sent. A local server takes their place: a test cannot reach them."""
    requests: Received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            parsed = json.loads(body) if body.startswith("{") else {k: v[0] for k, v in parse_qs(body).items()}
            requests.append((self.path, parsed))
            self.send_response(202 if "enqueue" in self.path else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"ok": True, "status": "success", "dedup_key": "any"}).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        slack = {"conn_type": "slack", "password": "xoxb-of-the-test", "extra": {"base_url": f"{url}/api/"}}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", json.dumps(slack))
        page = {"conn_type": "pagerduty_events", "password": "key-of-the-test"}
        monkeypatch.setenv("AIRFLOW_CONN_PAGERDUTY_EVENTS_DEFAULT", json.dumps(page))
        # The hook has no setting for PagerDuty's address, and the client takes none without TLS.
        here = property(lambda _: url, lambda *_: None)
        monkeypatch.setattr(pagerduty.EventsApiV2Client, "url", here)
        yield requests
        server.shutdown()


@pytest.fixture(autouse=True)
def own_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of one test do not count in another."""
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))


@pytest.fixture
def prod(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.cache_clear()
    monkeypatch.setenv("AIRFLOW_ENV", "prod")
    yield
    settings.cache_clear()


def context(tags: tuple[str, ...] = (), error: str = "boom", **more: Any) -> dict[str, Any]:
    """The parts of a worker's callback context that are used; like it, without `ti.dag` and `ti.duration`."""
    ti = SimpleNamespace(task_id="load", try_number=3, max_tries=3, log_url="http://airflow.example/log")
    dag = SimpleNamespace(dag_id="sales_load_orders", tags={"sales", *tags})
    return {"dag": dag, "ti": ti, "run_id": "manual__1", "exception": ValueError(error), **more}


def fields(body: dict[str, Any]) -> dict[str, str]:
    blocks = body["blocks"] if isinstance(body["blocks"], list) else json.loads(body["blocks"])
    return dict(field["text"].split("\n", 1) for field in blocks[1]["fields"])


def test_a_failure_goes_to_the_channel_of_the_environment(received: Received) -> None:
    notify_failure(context())

    ((path, body),) = received
    assert path == "/api/chat.postMessage"
    assert body["channel"] == "#data-alerts-dev"
    assert body["text"] == "FAILURE sales_load_orders.load"
    assert fields(body) == {
        "*DAG*": "sales_load_orders",
        "*Task*": "load",
        "*Run*": "manual__1",
        "*Try*": "3",
        "*Error*": "boom",
    }
    assert "http://airflow.example/log" in str(body["blocks"])


def test_an_error_is_cut_escaped_and_without_secrets(received: Received) -> None:
    mask_secret("s3cr3t-of-the-warehouse")

    notify_failure(context(error=f"<!channel> s3cr3t-of-the-warehouse {'x' * 300}"))

    error = fields(received[0][1])["*Error*"]
    assert error.startswith("&lt;!channel&gt; *** x")
    assert len(error) < 220


def test_a_critical_failure_also_pages_in_prod(received: Received, prod: None) -> None:
    notify_failure(context(tags=("critical",)))

    (_, slack), (path, page) = received
    assert slack["text"] == "CRITICAL sales_load_orders.load"
    assert slack["channel"] == "#data-alerts"
    assert path == "/v2/enqueue"
    assert (page["routing_key"], page["event_action"]) == ("key-of-the-test", "trigger")
    assert page["dedup_key"] == "sales_load_orders"
    assert page["payload"]["severity"] == "critical"
    assert page["payload"]["custom_details"] == {"run_id": "manual__1", "error": "boom"}


def test_nobody_is_paged_for_what_is_not_critical(received: Received, prod: None) -> None:
    notify_failure(context())

    assert [path for path, _ in received] == ["/api/chat.postMessage"]


def test_nobody_is_paged_for_dev(received: Received, caplog: pytest.LogCaptureFixture) -> None:
    notify_failure(context(tags=("critical",)))

    assert [path for path, _ in received] == ["/api/chat.postMessage"]
    assert "Nobody paged: dev pages nobody" in caplog.text


@pytest.mark.parametrize(("reason", "messages"), [("timed_out", 1), ("all_tasks_deadlocked", 1), ("task_failure", 0)])
def test_a_run_reports_only_what_no_task_reported(received: Received, reason: str, messages: int) -> None:
    """The DAG processor gives no task where none failed."""
    seen = context(reason=reason)
    del seen["ti"], seen["exception"]

    notify_run_failure(seen)

    assert len(received) == messages
    assert all(fields(body)["*Error*"] == f"the DAG run ended with {reason}" for _, body in received)


def test_success_is_reported(received: Received) -> None:
    notify_success(context())

    assert received[0][1]["text"] == "SUCCESS sales_load_orders"


def test_a_retry_is_only_logged(received: Received, caplog: pytest.LogCaptureFixture) -> None:
    log_retry(context())

    assert received == []
    assert "sales_load_orders.load failed in try 3 of 4: boom" in caplog.text


def test_without_a_connection_the_message_is_logged_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SLACK_DEFAULT", raising=False)

    notify_failure(context())

    assert "Not sent to Slack #data-alerts-dev: connection 'slack_default' does not exist" in caplog.text
    assert "FAILURE sales_load_orders.load" in caplog.text
    assert "boom" in caplog.text


def test_a_slack_that_is_down_neither_raises_nor_stops_the_page(
    received: Received, prod: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slack = {"conn_type": "slack", "password": "xoxb-of-the-test", "extra": {"base_url": "http://127.0.0.1:9/"}}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", json.dumps(slack))

    notify_failure(context(tags=("critical",)))

    assert "send_slack failed" in caplog.text
    assert "xoxb-of-the-test" not in caplog.text
    assert [path for path, _ in received] == ["/v2/enqueue"]


FAILING = """
from datetime import timedelta
from airflow.sdk import dag, task
from shared.authoring.defaults import default_args

@dag(schedule=None, default_args=default_args("sales", retries=1, retry_delay=timedelta(milliseconds=1)))
def sales_load_orders():
    @task
    def load():
        raise ConnectionError("the shop is down")
    load()

sales_load_orders()
"""


def test_airflow_calls_it_once_no_retry_is_left(
    run_text: Callable[[str, str], DagRun], received: Received, caplog: pytest.LogCaptureFixture
) -> None:
    """With the context that Airflow really gives."""
    caplog.set_level(logging.WARNING)

    run = run_text("sales_load_orders", FAILING)

    assert run.state == "failed"
    ((_, body),) = received
    sent = fields(body)
    assert (sent["*Task*"], sent["*Try*"], sent["*Error*"]) == ("load", "2", "the shop is down")
    assert sent["*Run*"] == run.run_id
