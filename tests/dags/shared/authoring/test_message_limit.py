"""Messages about failures: to the team, with links, by e-mail too, and not too many of them."""

import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shared.authoring.message_limit import Verdict, admit
from shared.authoring.notifications import notify_failure, teams
from shared.authoring.settings import settings

pytestmark = pytest.mark.usefixtures("production")


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The e-mails that were delivered; a few lines of SMTP take the place of a mail server."""
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


def test_the_team_gets_links_to_log_run_and_runbook(slack: list[dict[str, Any]], mail: list[str]) -> None:
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


def test_messages_of_an_unknown_team_go_to_the_environments_channel_without_mail(
    slack: list[dict[str, Any]], mail: list[str]
) -> None:
    notify_failure(failure(owner="nobody"))
    assert [message["channel"] for message in slack] == [settings().notifications.slack_channel]
    assert mail == []


def test_a_dag_sends_so_many_messages_in_an_hour_and_says_that_it_stops(
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
    assert caplog.text.count("Held back") == 3


def test_workers_at_once_keep_to_one_limit_and_the_next_hour_starts_again() -> None:
    now, answers = datetime(2026, 1, 1, 10, 59, tzinfo=UTC), []
    threads = [threading.Thread(target=lambda: answers.append(admit("dag", 5, now))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(answer is not Verdict.HELD_BACK for answer in answers) == 5
    assert admit("other", 5, now) == ""
    assert admit("dag", 5, now + timedelta(minutes=1)) == ""


def test_without_a_warehouse_the_message_is_sent(slack: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"conn_type": "sqlite", "host": "/proc/no-such-place/warehouse.db"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(nowhere))
    notify_failure(failure())
    assert len(slack) == 1
