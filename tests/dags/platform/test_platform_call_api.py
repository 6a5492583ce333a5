"""The robust API operator against a real server on this machine that fails in each way, and the DAG that uses it."""

import datetime as dt
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import tenacity.nap
from airflow.models.dagrun import DagRun
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from shared.calling.api_operator import RobustApiOperator
from shared.calling.circuit_breaker import CircuitBreaker

FINE = (200, {}, '{"rows": [1]}')
CUT = "cut the connection"
HALF = "cut the answer"
SLOW = "never answer"
Answer = tuple[int, dict[str, str], str] | str


@dataclass
class Service:
    """A server, what it is to answer in turn (the last for ever), and what it was asked."""

    answers: list[Answer] = field(default_factory=lambda: [FINE])
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    served = Service()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            served.asked.append((self.command, self.path, body))
            served.headers.append(dict(self.headers))
            answer = served.next()
            if answer == SLOW:
                served.released.wait(30)
            if isinstance(answer, str) and answer != HALF:
                return self.connection.shutdown(socket.SHUT_RDWR)
            status, headers, text = (200, {}, "{") if isinstance(answer, str) else answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text) + (10 if answer == HALF else 0)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())
            return None

        do_GET = do_POST = answer  # noqa: N815  named as http.server calls them

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    connection = {"conn_type": "http", "host": "127.0.0.1", "port": served.port, "schema": "http"}
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps(connection))
    yield served
    served.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the operator would have slept between tries: real waits take minutes."""
    slept: list[float] = []
    monkeypatch.setattr(tenacity.nap.time, "sleep", slept.append)
    return slept


def operator(**more: Any) -> RobustApiOperator:
    return RobustApiOperator(**{"task_id": "call", "conn_id": "airflow_api", "endpoint": "/rows", **more})


def call(**more: Any) -> Any:
    return operator(**more).execute({})


@pytest.mark.parametrize(
    "failure", [CUT, HALF, *((status, {}, "sorry") for status in (408, 425, 429, 500, 502, 503, 504))], ids=str
)
def test_what_may_heal_is_tried_again(service: Service, waits: list[float], failure: Answer) -> None:
    service.answers = [failure, failure, FINE]
    assert call() == {"rows": [1]}
    assert len(service.asked) == 3
    assert 2 <= waits[0] <= 3
    assert 4 <= waits[1] <= 5


def test_a_service_that_does_not_answer_in_time_is_asked_again(service: Service, waits: list[float]) -> None:
    service.answers = [SLOW, FINE]
    assert call(timeout=0.2) == {"rows": [1]}
    assert len(service.asked) == 2


def test_a_service_that_is_not_there_is_left_to_the_retries_of_the_task(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(requests.ConnectionError):
            call()
        assert len(waits) == 3
        with pytest.raises(requests.ConnectionError):  # nothing was sent, so a POST can be repeated too
            call(method="POST")


def test_four_tries_and_no_more(service: Service, waits: list[float]) -> None:
    service.answers = [(503, {}, "down")]
    with pytest.raises(requests.HTTPError, match="503"):
        call()
    assert len(service.asked) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_a_refusal_is_not_tried_again(service: Service, waits: list[float], status: int) -> None:
    service.answers = [(status, {}, "field x is wrong"), FINE]
    with pytest.raises(AirflowFailException, match=rf"no retry can heal it: {status} .*field x is wrong"):
        call()
    assert len(service.asked) == 1


def in_seconds(seconds: int) -> str:
    return format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("header", "least", "most"), [("7", 7, 7), (40, 1, 40), (-9, 0, 0)])
def test_it_waits_as_long_as_it_is_asked_to(
    service: Service, waits: list[float], header: str | int, least: float, most: float
) -> None:
    asked = header if isinstance(header, str) else in_seconds(header)
    service.answers = [(429, {"Retry-After": asked}, ""), FINE]
    assert call() == {"rows": [1]}
    assert least <= waits[0] <= most


def test_a_long_wait_is_left_to_the_retry_policy_of_the_task(service: Service, waits: list[float]) -> None:
    from shared.authoring.retry_policy import RetryWhatCanHeal

    service.answers = [(429, {"Retry-After": "600"}, ""), FINE]
    with pytest.raises(requests.HTTPError) as raised:
        call()
    assert waits == []
    assert RetryWhatCanHeal().evaluate(raised.value, 1, 3).retry_delay == dt.timedelta(minutes=10)


@pytest.mark.parametrize("failure", [CUT, (500, {}, ""), (502, {}, "")], ids=str)
def test_a_post_that_may_have_been_carried_out_is_not_repeated(
    service: Service, waits: list[float], failure: Answer
) -> None:
    service.answers = [failure, FINE]
    with pytest.raises(AirflowFailException, match="may have been carried out"):
        call(method="POST", payload={"a": 1})
    assert service.asked == [("POST", "/rows", '{"a": 1}')]

    service.answers = [failure, FINE]
    assert call(method="post", headers={"Idempotency-Key": "k"}) == {"rows": [1]}


def test_a_post_that_was_refused_for_load_is_repeated(service: Service, waits: list[float]) -> None:
    service.answers = [(503, {}, ""), (429, {}, ""), FINE]
    assert call(method="POST") == {"rows": [1]}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, {"Content-Type": "text/html"}, "<html>"), "not with JSON but with text/html"),
        (FINE, "does not pass response_check"),
    ],
)
def test_an_answer_that_is_wrong_fails_at_once(
    service: Service, waits: list[float], answer: Answer, reason: str
) -> None:
    service.answers = [answer]
    with pytest.raises(AirflowFailException, match=reason):
        call(response_check=lambda page: "columns" in page)
    assert len(service.asked) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", "null"])
def test_nothing_skips_where_that_is_wanted(service: Service, text: str) -> None:
    service.answers = [(200, {}, text)]
    assert not call()
    with pytest.raises(AirflowSkipException):
        call(skip_on_empty=True)


def following(response: requests.Response) -> dict[str, Any] | None:
    page = response.json().get("next")
    return {"data": {"page": page}} if page else None


def test_pages_are_fetched_one_by_one_and_each_has_its_own_tries(service: Service, waits: list[float]) -> None:
    down = (503, {}, "")
    pages = [(200, {}, json.dumps(page)) for page in ({"n": 1, "next": 2}, {"n": 2, "next": 3}, {"n": 3})]
    service.answers = [pages[0], down, down, down, pages[1], down, down, down, pages[2]]
    found = call(pagination_function=following, payload={"size": 1}, headers={"X-Team": "flights"})
    assert [page["n"] for page in found] == [1, 2, 3]
    assert [path for _, path, _ in service.asked if "page" in path][::4] == ["/rows?page=2", "/rows?page=3"]
    assert {headers["X-Team"] for headers in service.headers} == {"flights"}


def test_pages_without_end_are_an_error(service: Service) -> None:
    service.answers = [(200, {}, '{"next": 1}')]
    with pytest.raises(AirflowFailException, match="more than 5 pages"):
        call(pagination_function=following, max_pages=5)
    assert len(service.asked) == 5


def test_while_the_circuit_is_open_nobody_calls(service: Service, waits: list[float]) -> None:
    breaker = CircuitBreaker("rows")
    service.answers = [(503, {}, "")]
    with pytest.raises(requests.HTTPError):
        call(circuit_breaker=breaker)
    with pytest.raises(AirflowFailException, match="circuit of rows is open after 5 failures"):
        call(circuit_breaker=breaker)  # its first try is the fifth failure; there is no second
    assert len(service.asked) == 5
    with pytest.raises(AirflowFailException, match="circuit of rows is open"):
        call(circuit_breaker=breaker)
    assert len(service.asked) == 5


def test_a_refusal_does_not_speak_against_the_service(service: Service) -> None:
    service.answers = [(404, {}, "")]
    breaker = CircuitBreaker("found")
    for _ in range(6):
        with pytest.raises(AirflowFailException, match="404"):
            call(circuit_breaker=breaker)
    assert len(service.asked) == 6


class Forgetful(CircuitBreaker):
    """A breaker whose warehouse goes away during the call."""

    def succeeded(self, *_: Any) -> None:
        raise ConnectionError("the warehouse is down")

    failed = succeeded


def test_a_post_that_went_well_is_not_sent_again_because_the_breaker_cannot_note_it(service: Service) -> None:
    assert call(method="POST", circuit_breaker=Forgetful("invoices")) == {"rows": [1]}
    assert len(service.asked) == 1


def test_a_post_that_may_have_been_carried_out_is_not_repeated_because_the_breaker_cannot_note_it(
    service: Service, waits: list[float]
) -> None:
    service.answers = [(500, {}, "sorry")]
    with pytest.raises(AirflowFailException, match="POST /rows may have been carried out"):
        call(method="POST", circuit_breaker=Forgetful("invoices"))
    assert len(service.asked) == 1


AIRFLOW = {
    "/api/v2/version": '{"version": "3.3.2", "git_version": null}',
    "/api/v2/monitor/health": '{"metadatabase": {"status": "healthy"}, "triggerer": {"status": null}}',
}
"""The shapes are those of Airflow 3.3.2, taken from a running one."""


def test_the_dag_reports_what_the_api_says(
    service: Service,
    run_dag: Callable[..., DagRun],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Service, "next", lambda self: (200, {}, AIRFLOW[self.asked[-1][1]]))
    run = run_dag("platform_call_api")
    assert run.state == "success"
    assert {path for _, path, _ in service.asked} == set(AIRFLOW)
    assert "Airflow 3.3.2; metadatabase: healthy, triggerer: None" in capfd.readouterr().out


def test_templates_are_filled_in(service: Service, run_text: Callable[[str, str], DagRun]) -> None:
    run = run_text("flights_ask_rows", TEMPLATED)
    assert run.state == "success"
    assert service.asked == [("GET", "/rows/flights_ask_rows?dag=flights_ask_rows", "")]
    assert service.headers[0]["X-Dag"] == "flights_ask_rows"


TEMPLATED = """
from airflow.sdk import dag
from shared.calling.api_operator import RobustApiOperator

@dag(schedule=None)
def flights_ask_rows():
    RobustApiOperator(
        task_id="ask", conn_id="airflow_api", endpoint="/rows/{{ dag.dag_id }}",
        payload={"dag": "{{ dag.dag_id }}"}, headers={"X-Dag": "{{ dag.dag_id }}"},
    )

flights_ask_rows()
"""


class Context(dict[str, Any]):
    """What the operator takes of a task's context: its DAG's id, and a place for XComs."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}
        dag = type("Dag", (), {"dag_id": "platform_call_api"})
        super().__init__(dag=dag, ti=self)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


ROWS = {"type": "object", "properties": {"rows": {"type": "array", "items": {"type": "integer"}}}, "required": ["rows"]}


def test_an_answer_that_does_not_fit_its_schema_is_not_tried_again(service: Service, waits: list[float]) -> None:
    assert call(response_schema=ROWS) == {"rows": [1]}
    service.answers = [(200, {}, '{"rows": [1, "two"]}')]
    with pytest.raises(AirflowFailException, match=r"/rows: rows.1 does not fit response_schema: 'two' is not"):
        call(response_schema=ROWS)
    service.answers = [(200, {}, "{}")]
    with pytest.raises(AirflowFailException, match="the answer does not fit response_schema: 'rows' is a required"):
        call(response_schema=ROWS)
    assert len(service.asked) == 3


def test_the_last_good_answer_stands_in_and_is_marked(service: Service, waits: list[float]) -> None:
    context, asking = Context(), operator(fallback=True, task_id="cached")
    service.answers = [(503, {}, "down")]
    with pytest.raises(requests.HTTPError, match="503"):  # nothing was ever kept
        asking.execute(context)
    service.answers = [FINE]
    assert asking.execute(context) == {"rows": [1]}
    assert context.pushed == {}

    service.answers = [(503, {}, "down")]
    assert asking.execute(context) == {"rows": [1]}
    assert dt.datetime.fromisoformat(context.pushed["stale"]).tzinfo
    with pytest.raises(requests.HTTPError):  # by choice alone
        operator(task_id="cached").execute(Context())
    with pytest.raises(requests.HTTPError):  # another request has another answer
        operator(fallback=True, task_id="cached", payload={"page": 2}).execute(Context())


def test_an_open_circuit_gives_the_last_good_answer(service: Service, waits: list[float]) -> None:
    breaker = CircuitBreaker("cached_rows", failure_threshold=1)
    asking = operator(fallback=True, task_id="behind_breaker", circuit_breaker=breaker, max_retries=0)
    assert asking.execute(Context()) == {"rows": [1]}
    service.answers = [(503, {}, "down")]
    asking.execute(Context())
    asked, context = len(service.asked), Context()
    assert asking.execute(context) == {"rows": [1]}
    assert "stale" in context.pushed
    assert len(service.asked) == asked, "the circuit is open: nobody asks"


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_is_no_case_for_the_last_good_answer(service: Service, waits: list[float], status: int) -> None:
    asking = operator(fallback=True, task_id="refused")
    asking.execute(Context())
    service.answers = [(status, {}, "no")]
    with pytest.raises(AirflowFailException, match="no retry can heal it"):
        asking.execute(Context())


def test_what_changes_something_has_no_last_good_answer() -> None:
    with pytest.raises(ValueError, match="fallback is for GET and HEAD, not for POST"):
        operator(method="POST", fallback=True)


def test_each_page_is_a_span(service: Service, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    service.answers = [(503, {}, "down"), FINE]
    call()
    service.answers = [(404, {}, "no")]
    with pytest.raises(AirflowFailException):
        call()
    good, bad = exporter.get_finished_spans()
    assert (good.name, dict(good.attributes or {})) == (
        "api.call",
        {"http.request.method": "GET", "url.path": "/rows", "http.response.status_code": 200},
    )
    assert good.status.is_ok or good.status.is_unset
    assert not bad.status.is_ok
    assert bad.events[0].name == "exception"


def test_a_task_that_is_ended_makes_no_further_try(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = operator()
    send = asking._send

    def ended(request: dict[str, Any]) -> Any:
        asking.on_kill()
        return send(request)

    monkeypatch.setattr(asking, "_send", ended)
    service.answers = [(503, {}, "down"), FINE]
    with pytest.raises(requests.HTTPError):
        asking.execute({})
    assert len(service.asked) == 1
