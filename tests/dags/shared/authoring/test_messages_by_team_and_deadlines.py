"""Links, teams, e-mail, the limit of messages, and deadlines: what the triggerer sends, by Airflow's own code."""

import asyncio
import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.models.deadline import Deadline
from airflow.utils.session import create_session
from sqlalchemy import select

from shared.authoring.message_limit import Verdict, admit
from shared.authoring.notifications import notify_failure, teams
from shared.authoring.settings import settings


@pytest.fixture(autouse=True)
def prod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Production, with a warehouse and a page of its own."""
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    settings.cache_clear()
    monkeypatch.setenv("AIRFLOW_ENV", "prod")
    yield
    settings.cache_clear()


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What Slack was sent; a local server stands in for it."""
    sent: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"ok": true}')

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        extra = {"base_url": f"http://127.0.0.1:{server.server_port}/api/"}
        monkeypatch.setenv(
            "AIRFLOW_CONN_SLACK_DEFAULT", json.dumps({"conn_type": "slack", "password": "x", "extra": extra})
        )
        yield sent
        server.shutdown()


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The e-mails that were delivered; a few lines of SMTP stand in for a mail server."""
    delivered: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready\r\n")
            while line := self.rfile.readline():
                if line.upper().startswith(b"DATA"):
                    self.wfile.write(b"354 go on\r\n")
                    text = b"".join(iter(self.rfile.readline, b".\r\n"))
                    delivered.append(text.decode())
                self.wfile.write(b"250 ok\r\n")
                if line.upper().startswith(b"QUIT"):
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.com"}
        port = server.server_address[1]
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        yield delivered
        server.shutdown()


def failure(owner: str = "flights") -> dict[str, Any]:
    ti = SimpleNamespace(task_id="load", try_number=3, max_tries=3, log_url="https://airflow.example/log")
    dag = SimpleNamespace(dag_id="flights_load_x", tags=set(), default_args={"owner": owner})
    return {"dag": dag, "ti": ti, "run_id": "manual__2026-01-01T00:00:00+00:00", "exception": ValueError("<b>boom")}


def test_the_team_is_told_with_links_to_log_run_and_runbook(slack: list[dict[str, Any]], mail: list[str]) -> None:
    notify_failure(failure())

    (message,) = slack
    assert message["channel"] == teams()["flights"].slack_channel
    links = str(message["blocks"][-1])
    page = "https://airflow.example/dags/flights_load_x"
    for link in (
        "https://airflow.example/log|Log",
        f"{page}/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00|Run",
        f"{page}|Runbook",
    ):
        assert f"<{link}>" in links
    (text,) = mail
    assert "Subject: FAILURE flights_load_x.load" in text
    assert "To: flights@example.com" in text


def test_an_unknown_team_is_told_in_the_environments_channel_and_gets_no_mail(
    slack: list[dict[str, Any]], mail: list[str]
) -> None:
    notify_failure(failure(owner="nobody"))
    assert [message["channel"] for message in slack] == [settings().notifications.slack_channel]
    assert mail == []


def test_a_dag_tells_so_often_in_an_hour_and_says_that_it_stops(
    slack: list[dict[str, Any]], mail: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    limit = settings().notifications.failures_an_hour

    for _ in range(limit + 3):
        notify_failure(failure())

    assert len(slack) == len(mail) == limit
    assert ["The last message of this DAG" in str(message["blocks"]) for message in slack] == [False] * (limit - 1) + [
        True
    ]
    assert caplog.text.count("Not sent") == 3


def test_workers_at_once_keep_to_one_limit_and_the_next_hour_begins_anew() -> None:
    now, answers = datetime(2026, 1, 1, 10, 59, tzinfo=UTC), []
    threads = [threading.Thread(target=lambda: answers.append(admit("dag", 5, now))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(answer is not Verdict.HOLD_BACK for answer in answers) == 5
    assert admit("other", 5, now) is Verdict.SEND
    assert admit("dag", 5, now + timedelta(minutes=1)) is Verdict.SEND


def test_without_a_warehouse_the_message_is_sent(slack: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"conn_type": "sqlite", "host": "/proc/no-such-place/warehouse.db"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(nowhere))
    notify_failure(failure())
    assert len(slack) == 1


TEXT = """
from datetime import timedelta
from airflow.sdk import dag, task
from shared.authoring.deadlines import deadline

@dag(schedule=None, deadline=deadline("flights_be_late", "flights", timedelta(seconds=1)))
def flights_be_late():
    @task
    def run():
        pass
    run()

flights_be_late()
"""


@pytest.fixture
def late(rest: Any, tmp_path: Path) -> str:
    """A run of a DAG that has a deadline, as DAG processor and API server make them; its id."""
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel

    (tmp_path / "flights_be_late.py").write_text(TEXT)
    bag = BundleDagBag(dag_folder=tmp_path, bundle_path=tmp_path, bundle_name="deadlines")
    assert not bag.import_errors
    with create_session() as session:
        if session.scalar(select(DagBundleModel).where(DagBundleModel.name == "deadlines")) is None:
            session.add(DagBundleModel(name="deadlines"))
            session.flush()
        sync_bag_to_db(bag, "deadlines", None, session=session)
    answer = rest.post("/api/v2/dags/flights_be_late/dagRuns", json={"logical_date": None})
    assert answer.status_code == 200, answer.text
    run_id: str = answer.json()["dag_run_id"]
    return run_id


def missed(run_id: str) -> dict[str, Any]:
    """What the scheduler does with the deadline of a run that is over, and the triggerer after it: its last word."""
    with create_session() as session:
        mine = select(Deadline).join(DagRun, DagRun.id == Deadline.dagrun_id).where(DagRun.run_id == run_id)
        overdue = session.scalars(mine).one()
        assert overdue.deadline_time - datetime.now(UTC) < timedelta(seconds=1)
        overdue.handle_miss(session)
        session.flush()
        trigger = overdue.callback.trigger
        classpath, kwargs = trigger.classpath, trigger.kwargs

    from airflow._shared.module_loading import import_string

    async def events() -> list[Any]:
        return [event.payload async for event in import_string(classpath)(**kwargs).run()]

    last: dict[str, Any] = asyncio.run(events())[-1]
    return last


def test_a_missed_deadline_is_told_from_the_triggerer(late: str, slack: list[dict[str, Any]]) -> None:
    assert missed(late) == {"state": "success", "body": f"sent to {teams()['flights'].slack_channel}"}

    (message,) = slack
    assert message["text"] == "DEADLINE MISSED flights_be_late"
    assert late in str(message["blocks"])
    assert "https://airflow.example/dags/flights_be_late|Runbook" in str(message["blocks"])


def test_without_slack_the_callback_says_so_and_does_not_fail(late: str) -> None:
    assert missed(late) == {"state": "success", "body": "logged: connection 'slack_default' does not exist"}


def test_the_callback_lies_where_the_triggerer_finds_it_and_not_in_the_bundle() -> None:
    from airflow_ops.paths import PLUGINS
    from shared.authoring.deadlines import CALLBACK

    module, _, function = CALLBACK.partition(".")
    assert f"async def {function}(" in (PLUGINS / f"{module}.py").read_text()
