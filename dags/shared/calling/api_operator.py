"""Calls an HTTP API and returns its JSON: it retries faults that may pass, and fails at once where no retry helps.

Built on `HttpHook` of the http provider. Its `HttpOperator` does not retry; this one knows which answers are worth
another try, how long a rate limit asks to wait, and when the service should be left alone.
"""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from shared.calling.circuit_breaker import CircuitBreaker, CircuitOpenError

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath
    from requests import Response
    from tenacity import RetryCallState

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that another try may change (RFC 9110, RFC 6585, RFC 8470)."""
SAFE = ("GET", "HEAD")
"""Methods that change nothing, so that an earlier answer may be used again (RFC 9110, section 9.2.1)."""
NOT_STARTED = (429, 503)
"""Statuses with which a server refuses a request before it does anything."""
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
"""Methods that may be repeated even if the first request did arrive (RFC 9110, section 9.2.2)."""
MAX_WAIT_SECONDS = 60.0
"""A wait in the task holds a worker pod. A longer one is left to the retries of the task, which hold none."""


class RobustApiOperator(BaseOperator):
    """Call an endpoint, page by page where it has pages, and return the decoded JSON.

    | What happens | What the task does |
    |---|---|
    | no connection, timeout, broken answer, HTTP 408, 425, 429, 5xx | tried again here, then by the task's `retries` |
    | `Retry-After` up to a minute | waited for here |
    | `Retry-After` longer than that | left to the task's retry policy, which waits without a pod |
    | HTTP 401, 403, 404 and other refusals; not JSON; `response_check` returns False | fails, no retry |
    | a POST or PATCH that may have been carried out | fails, no retry; with a header `Idempotency-Key` it is repeated |
    | circuit open | fails or is skipped, as the breaker says |
    | the answer does not fit `response_schema` | fails, no retry; key and reason are named |
    | `fallback` is given, and the service is at fault | the last good answer, with its time in the XCom `stale` |

    Each page is an OpenTelemetry span, `api.call`, of whatever tracing the worker has.

    Args:
        conn_id: Connection of type `http`; TLS is verified unless its extra says otherwise.
        endpoint: Path below the connection's host.
        method: HTTP method.
        payload: Query parameters of a GET, else the JSON body.
        headers: Headers besides those of the connection.
        response_check: Whether a decoded page is what was asked for.
        pagination_function: As that of the provider's `HttpOperator`: given a response, it returns what the request of
            the next page replaces (`endpoint`, `data` and `headers`), or None after the last. The result is then a list
            of pages.
        max_pages: More pages than these are an error: a next page that never ends.
        max_retries: Tries after the first, for each page.
        backoff_factor: The wait after try n is this to the power of n, and up to a second at random.
        timeout: Seconds to connect, and seconds between two bytes of the answer.
        skip_on_empty: Whether a result without content skips the task.
        circuit_breaker: Breaker of the service; each try counts.
        response_schema: JSON Schema (2020-12) that each decoded page has to fit.
        fallback: Keep each good result in object storage below `cache/api/`, and return the last one where the
            service is at fault or its circuit is open. Not for a request that changes something.
        **kwargs: Of every operator. The result is not pushed with `do_xcom_push=False`.
    """

    template_fields: Sequence[str] = ("endpoint", "payload", "headers")
    template_fields_renderers = {"payload": "json", "headers": "json"}  # noqa: RUF012  Airflow's own form
    ui_color = "#1c7a4a"
    ui_fgcolor = "#ffffff"

    def __init__(
        self,
        *,
        conn_id: str,
        endpoint: str,
        method: str = "GET",
        payload: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        response_check: Callable[[Any], bool] | None = None,
        pagination_function: Callable[["Response"], dict[str, Any] | None] | None = None,
        max_pages: int = 1000,
        max_retries: int = 3,
        backoff_factor: float = 2.0,
        timeout: float = 30.0,
        skip_on_empty: bool = False,
        circuit_breaker: CircuitBreaker | None = None,
        response_schema: dict[str, Any] | None = None,
        fallback: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.endpoint = endpoint
        self.method = method.upper()
        self.payload = payload or {}
        self.headers = headers or {}
        self.response_check = response_check
        self.pagination_function = pagination_function
        self.max_pages = max_pages
        self.max_retries = max_retries
        self.backoff_factor = backoff_factor
        self.timeout = timeout
        self.skip_on_empty = skip_on_empty
        self.circuit_breaker = circuit_breaker
        self.response_schema = response_schema
        self.fallback = fallback
        self._under_way = ""
        self._killed = False
        if fallback and self.method not in SAFE:
            raise ValueError(f"{self.task_id}: fallback is for {' and '.join(SAFE)}, not for {self.method}.")

    def execute(self, context: Context) -> Any:
        """Fetch all pages; returns the page, or the list of them where there is a `pagination_function`.

        Raises:
            AirflowFailException: Nothing that another try could change.
            AirflowSkipException: The result is empty, or the circuit is open, and the policy is to skip.
            requests.RequestException: Every try failed, in a way that the task's own retries may outlast.
        """
        import requests

        try:
            pages = self._pages()
        except (requests.RequestException, CircuitOpenError) as error:
            if not self.fallback:
                raise
            return self._last_good(context, error)
        result = pages if self.pagination_function else pages[0]
        if self.skip_on_empty and not any(pages):
            raise AirflowSkipException(f"{self.method} {self.endpoint} gave nothing.")
        if self.fallback:
            self._keep(context, result)
        return result

    def on_kill(self) -> None:
        """Stop retrying, and log a request that is under way: the service may still carry it out."""
        self._killed = True
        if self._under_way:
            self.log.warning("Ended during %s: the service may have carried it out", self._under_way)

    def _cached(self, context: Context) -> "ObjectStoragePath":
        from shared.loading.staging import safe_name, storage

        request = json.dumps([self.conn_id, self.method, self.endpoint, self.payload], sort_keys=True)
        digest = hashlib.sha256(request.encode()).hexdigest()[:16]
        return storage("cache", "api", context["dag"].dag_id, safe_name(self.task_id), f"{digest}.json")

    def _keep(self, context: Context, result: Any) -> None:
        from shared.loading.staging import write_text

        text = json.dumps({"at": datetime.now(UTC).isoformat(), "result": result})
        write_text(text, self._cached(context))

    def _last_good(self, context: Context, error: Exception) -> Any:
        """The last good answer to the same request; raises the error if there is none."""
        path = self._cached(context)
        if not path.exists():
            raise error
        kept = json.loads(path.read_text())
        self.log.warning("%s: %s; going on with the answer of %s", self.endpoint, error, kept["at"])
        context["ti"].xcom_push(key="stale", value=kept["at"])
        return kept["result"]

    def _pages(self) -> list[Any]:
        request: dict[str, Any] | None = {"endpoint": self.endpoint, "data": self.payload, "headers": self.headers}
        pages: list[Any] = []
        while request is not None:
            if len(pages) == self.max_pages:
                raise AirflowFailException(f"{self.endpoint} has more than {self.max_pages} pages: raise max_pages.")
            response = self._fetch(request)
            pages.append(self._decode(response))
            following = self.pagination_function(response) if self.pagination_function else None
            request = {**request, **following} if following else None
        return pages

    def _fetch(self, request: dict[str, Any]) -> "Response":
        """One page as a span, with as many tries as it needs."""
        from opentelemetry import trace

        # Names of the attributes: OpenTelemetry's semantic conventions for HTTP clients.
        attributes = {"http.request.method": self.method, "url.path": request["endpoint"]}
        with trace.get_tracer(__name__).start_as_current_span("api.call", attributes=attributes) as span:
            response = self._fetch_page(request)
            span.set_attribute("http.response.status_code", response.status_code)
            return response

    def _fetch_page(self, request: dict[str, Any]) -> "Response":
        import requests
        import tenacity

        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._may_be_repeated),
            wait=self._wait,
            stop=self._stop,
            before_sleep=self._log_try,
            reraise=True,
        )
        try:
            response: Response = tries(self._try, request)
        except requests.RequestException as error:
            if _is_transient(error) and not self._may_be_repeated(error):
                raise AirflowFailException(
                    f"{self.method} {request['endpoint']} may have been carried out ({error}): look before you clear "
                    "the task, or send a header Idempotency-Key if the service knows it."
                ) from error
            if not _is_transient(error):
                raise AirflowFailException(
                    f"{self.method} {request['endpoint']}: no retry can heal it: {_explain(error)}"
                ) from error
            raise
        return response

    def _try(self, request: dict[str, Any]) -> "Response":
        """One request; the breaker counts what speaks against the service."""
        self._under_way = f"{self.method} {request['endpoint']}"
        try:
            if self.circuit_breaker is None:
                return self._send(request)
            with self.circuit_breaker.guard(counts=_is_transient):
                return self._send(request)
        finally:
            self._under_way = ""

    def _send(self, request: dict[str, Any]) -> "Response":
        from airflow.providers.http.hooks.http import HttpHook

        body = {"data": request["data"]} if self.method == "GET" else {"json": request["data"] or None}
        response: Response = HttpHook(method=self.method, http_conn_id=self.conn_id).run(
            endpoint=request["endpoint"],
            headers=request["headers"],
            # The hook's own check logs the whole answer and drops the response, whose headers say how long to wait.
            extra_options={"timeout": self.timeout, "check_response": False},
            **body,
        )
        response.raise_for_status()
        return response

    def _decode(self, response: "Response") -> Any:
        if not response.content:
            return None
        try:
            page = response.json()
        except ValueError as error:
            kind = response.headers.get("Content-Type", "of no type")
            raise AirflowFailException(f"{self.endpoint} answered not with JSON but with {kind}: {error}") from error
        if self.response_schema is not None:
            _require_schema(page, self.response_schema, self.endpoint)
        if self.response_check and not self.response_check(page):
            raise AirflowFailException(f"{self.endpoint}: the answer does not pass response_check: {str(page)[:200]}")
        return page

    def _may_be_repeated(self, error: BaseException) -> bool:
        """Whether a try that failed so may be followed by another."""
        if not _is_transient(error):
            return False
        known = {name.lower() for name in self.headers}
        return self.method in IDEMPOTENT or "idempotency-key" in known or _never_started(error)

    def _stop(self, state: "RetryCallState") -> bool:
        """Whether this was the last try in this task."""
        return self._killed or state.attempt_number > self.max_retries or state.upcoming_sleep > MAX_WAIT_SECONDS

    def _wait(self, state: "RetryCallState") -> float:
        """Seconds to the next try: as long as the server asks for, else longer each time."""
        error = state.outcome.exception() if state.outcome else None
        asked = _retry_after(error)
        if asked is not None:
            return asked
        # Spread, so that tasks which failed together do not come back together; nothing here is secret.
        backoff = self.backoff_factor**state.attempt_number + random.uniform(0, 1)  # noqa: S311
        return min(backoff, MAX_WAIT_SECONDS)

    def _log_try(self, state: "RetryCallState") -> None:
        error = state.outcome.exception() if state.outcome else None
        tries = f"{state.attempt_number}/{self.max_retries + 1}"
        self.log.warning("Try %s of %s failed (%s), next in %.1f s", tries, self.endpoint, error, state.upcoming_sleep)


def _require_schema(page: Any, schema: dict[str, Any], endpoint: str) -> None:
    """Fail where a page does not fit, naming the first key that does not."""
    import jsonschema

    faults = jsonschema.Draft202012Validator(schema).iter_errors(page)
    first = min(faults, key=lambda fault: list(map(str, fault.absolute_path)), default=None)
    if first is not None:
        key = ".".join(map(str, first.absolute_path)) or "the answer"
        raise AirflowFailException(f"{endpoint}: {key} does not fit response_schema: {first.message[:200]}")


def _is_transient(error: BaseException) -> bool:
    """Whether the service, not the request, is at fault."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in TRANSIENT
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, kinds) and not isinstance(error, requests.exceptions.SSLError)


def _never_started(error: BaseException) -> bool:
    """Whether the service surely did nothing."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in NOT_STARTED
    reason = getattr(error.args[0], "reason", None) if error.args else None
    # urllib3's: no connection was made, so nothing was sent.
    return isinstance(error, requests.ConnectTimeout) or type(reason).__name__ in (
        "NewConnectionError",
        "NameResolutionError",
    )


def _retry_after(error: BaseException | None) -> float | None:
    """Seconds that the header Retry-After asks for, given in seconds or as a date (RFC 9110, section 10.2.3)."""
    response = getattr(error, "response", None)
    value = "" if response is None else response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _explain(error: BaseException) -> str:
    """The error with the beginning of what the server said, which often names the wrong field."""
    response = getattr(error, "response", None)
    return f"{error}: {response.text[:200]}" if response is not None else str(error)
