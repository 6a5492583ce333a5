"""A circuit breaker: while a service is down, nobody calls it; after a while one call tests whether it is back.

The state is a row of the warehouse, one a service, so that all workers share it: a worker pod ends with its task. Every
change is one UPDATE that names the state it expects (compare and swap), so of many workers that see the same state only
one changes it. Times are those of the workers' clocks, which a cluster keeps within a second.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from shared.loading.quality import Value
from shared.loading.warehouse import create, execute, query, transaction, warehouse_hook

log = logging.getLogger(__name__)

TABLE = """CREATE TABLE IF NOT EXISTS circuit_breakers (
    service TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL, failures INTEGER NOT NULL, trial INTEGER NOT NULL,
    retry_at DOUBLE PRECISION NOT NULL)"""
"""`retry_at`: seconds since 1970. Open: when a trial may start. Half-open: when the running trial counts as lost."""


class CircuitOpenError(AirflowFailException):
    """The circuit is open, and the policy is to fail."""


class Permit(NamedTuple):
    """The right to one call.

    Attributes:
        trial: Number of the trial that the call is; None where the circuit is closed.
        failures: How many calls in a row had failed when it was given.
    """

    trial: int | None
    failures: int


def every_error(error: Exception) -> bool:
    """Whether an error speaks against the service: all do, but for a task that skips itself."""
    return not isinstance(error, AirflowSkipException)


@dataclass(frozen=True)
class CircuitBreaker:
    """The breaker of one service; all tasks that name the service share its state.

    `failure_threshold` calls that fail in a row open it. While it is open no call is made. After `recovery_timeout`
    one call is let through as a trial: its success closes the circuit, its failure opens it again. A trial whose worker
    died is given to another after `recovery_timeout`.

    Attributes:
        service: Name of the service.
        failure_threshold: Failures in a row that open the circuit.
        recovery_timeout: Seconds from opening to the trial. Both defaults are those of the Airflow field guides.
        when_open: What becomes of a task that finds it open: it fails without retries, or is skipped.
        clock: Seconds since 1970.
    """

    service: str
    failure_threshold: int = 5
    recovery_timeout: float = 300.0
    when_open: Literal["fail", "skip"] = "fail"
    clock: Callable[[], float] = time.time

    @contextmanager
    def guard(self, counts: Callable[[Exception], bool] = every_error) -> Iterator[None]:
        """Make one call inside: `with breaker.guard(): ...`.

        How the call ended is how this ends, whether or not the state can be written afterwards: a task that fails for
        it would be tried again, and send a second time what has arrived.

        Args:
            counts: Whether an error of the call speaks against the service. One that does not, such as HTTP 404, shows
                that the service answers.

        Raises:
            CircuitOpenError: The circuit is open, and the policy is to fail: an `AirflowFailException`.
            AirflowSkipException: The circuit is open, and the policy is to skip.
        """
        hook = warehouse_hook()
        permit = self.admit(hook)
        try:
            yield
        except AirflowTaskTimeout:
            self._note(self.failed, hook, permit)
            raise
        except Exception as error:
            self._note(self.failed if counts(error) else self.succeeded, hook, permit)
            raise
        self._note(self.succeeded, hook, permit)

    def admit(self, hook: DbApiHook) -> Permit:
        """Give the right to one call; raises the errors of `guard`."""
        create(hook, [TABLE])
        rows = query(
            hook, "SELECT state, failures, trial, retry_at FROM circuit_breakers WHERE service = ?", [self.service]
        )
        if not rows or rows[0]["state"] == "closed":
            return Permit(None, rows[0]["failures"] if rows else 0)
        state, failures, trial, retry_at = rows[0].values()
        if self.clock() >= retry_at and self._swap(
            hook,
            "SET state = 'half_open', trial = trial + 1, retry_at = ? WHERE service = ? AND state = ? AND trial = ?",
            [self.clock() + self.recovery_timeout, self.service, state, trial],
        ):
            log.info("Circuit of %s: this call is the trial", self.service)
            return Permit(trial + 1, failures)
        raise self._refusal(failures, state, retry_at)

    def succeeded(self, hook: DbApiHook, permit: Permit) -> None:
        """The call went well: a trial closes the circuit, any other call ends the row of failures."""
        if permit.trial is not None:
            if self._swap(
                hook,
                "SET state = 'closed', failures = 0 WHERE service = ? AND state = 'half_open' AND trial = ?",
                [self.service, permit.trial],
            ):
                log.info("Circuit of %s: closed again", self.service)
        elif permit.failures:
            self._swap(hook, "SET failures = 0 WHERE service = ? AND state = 'closed'", [self.service])

    def failed(self, hook: DbApiHook, permit: Permit) -> None:
        """The call failed: count it, and open the circuit where it was a trial or one too many."""
        retry_at = self.clock() + self.recovery_timeout
        if permit.trial is not None:
            opened = self._swap(
                hook,
                "SET state = 'open', retry_at = ? WHERE service = ? AND state = 'half_open' AND trial = ?",
                [retry_at, self.service, permit.trial],
            )
        else:
            self._count_failure(hook)
            opened = self._swap(
                hook,
                "SET state = 'open', retry_at = ? WHERE service = ? AND state = 'closed' AND failures >= ?",
                [retry_at, self.service, self.failure_threshold],
            )
        if opened:
            log.warning("Circuit of %s: open for %g s", self.service, self.recovery_timeout)

    def _note(self, outcome: Callable[[DbApiHook, Permit], None], hook: DbApiHook, permit: Permit) -> None:
        """Write what became of a call; what cannot be written is logged.

        That includes a time limit which ends just now: the call is over, and its task is about to end. A trial that is
        not noted counts as lost after `recovery_timeout`.
        """
        try:
            outcome(hook, permit)
        except (Exception, AirflowTaskTimeout):
            log.warning(
                "Circuit of %s: the call is made, but what became of it is not noted", self.service, exc_info=True
            )

    def _count_failure(self, hook: DbApiHook) -> None:
        with transaction(hook) as cursor:
            execute(
                hook,
                cursor,
                "INSERT INTO circuit_breakers (service, state, failures, trial, retry_at) "
                "VALUES (?, 'closed', 1, 0, 0) "
                "ON CONFLICT (service) DO UPDATE SET failures = circuit_breakers.failures + 1 "
                "WHERE circuit_breakers.state = 'closed'",
                [self.service],
            )

    def _swap(self, hook: DbApiHook, change: str, parameters: list[Value]) -> bool:
        """Change the row if it is as expected; whether it was."""
        with transaction(hook) as cursor:
            execute(hook, cursor, f"UPDATE circuit_breakers {change}", parameters)
            return bool(cursor.rowcount == 1)

    def _refusal(self, failures: int, state: str, retry_at: float) -> Exception:
        then = datetime.fromtimestamp(retry_at, UTC).isoformat(timespec="seconds")
        what = "a trial runs, others wait until" if state == "half_open" else "the next trial is due at"
        message = f"circuit of {self.service} is {state} after {failures} failures: not called; {what} {then}."
        return AirflowSkipException(message) if self.when_open == "skip" else CircuitOpenError(message)
