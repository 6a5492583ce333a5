"""The circuit breaker: its states, and that workers at once share them; on SQLite and on Postgres."""

import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

FORK = multiprocessing.get_context("fork")
"""Real processes that need not import Airflow again."""


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(warehouse: str, clock: Clock) -> Any:
    from shared.calling.circuit_breaker import CircuitBreaker

    return CircuitBreaker("tower", clock=clock)


class DownError(Exception):
    """The service is down."""


def call(breaker: Any, error: BaseException | None = None, **more: Any) -> str:
    """One call: `made`, or why it was not."""
    try:
        with breaker.guard(**more):
            if error:
                raise error
    except (AirflowFailException, AirflowSkipException) as refusal:
        return str(refusal)
    except (DownError, KeyError, AirflowTaskTimeout, SystemExit):
        return "made"
    return "made"


def state(service: str = "tower") -> tuple[str, int]:
    from shared.loading.warehouse import query, warehouse_hook

    row = query(warehouse_hook(), "SELECT state, failures FROM circuit_breakers WHERE service = ?", [service])[0]
    return row["state"], row["failures"]


def open_it(breaker: Any) -> None:
    for _ in range(breaker.failure_threshold):
        assert call(breaker, DownError()) == "made"
    assert state() == ("open", 5)


def test_five_failures_in_a_row_open_it_for_five_minutes(breaker: Any, clock: Clock) -> None:
    for _ in range(4):
        call(breaker, DownError())
    assert state() == ("closed", 4)
    assert call(breaker) == "made"
    assert state() == ("closed", 0)

    open_it(breaker)
    clock.now += 299
    assert "circuit of tower is open after 5 failures: not called; the next trial is due at 1970-01-12T13" in call(
        breaker
    )
    clock.now += 1
    assert call(breaker) == "made"
    assert state() == ("closed", 0)


def test_a_trial_that_fails_opens_it_again(breaker: Any, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 300
    assert call(breaker, DownError()) == "made"
    assert state()[0] == "open"
    clock.now += 299
    assert "is open" in call(breaker)


def test_an_answer_that_is_no_fault_of_the_service_closes_it(breaker: Any, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 300
    assert call(breaker, KeyError("404"), counts=lambda error: isinstance(error, DownError)) == "made"
    assert state() == ("closed", 0)


def test_a_task_that_times_out_in_a_call_counts_and_a_task_that_is_stopped_does_not(breaker: Any) -> None:
    call(breaker, AirflowTaskTimeout())
    assert state() == ("closed", 1)
    call(breaker, SystemExit())
    assert state() == ("closed", 1)


def test_the_policy_says_whether_a_task_fails_without_retries_or_is_skipped(breaker: Any) -> None:
    from dataclasses import replace

    open_it(breaker)
    with pytest.raises(AirflowFailException), breaker.guard():
        pass
    with pytest.raises(AirflowSkipException), replace(breaker, when_open="skip").guard():
        pass


def test_services_have_nothing_to_do_with_each_other(breaker: Any) -> None:
    from dataclasses import replace

    open_it(breaker)
    assert call(replace(breaker, service="radar")) == "made"


def test_a_lost_trial_is_given_to_another_and_its_late_end_changes_nothing(breaker: Any, clock: Clock) -> None:
    from shared.loading.warehouse import warehouse_hook

    open_it(breaker)
    clock.now += 300
    lost = breaker.admit(warehouse_hook())
    assert "is half_open after 5 failures: not called; a trial runs" in call(breaker)
    clock.now += 300
    assert breaker.admit(warehouse_hook()).trial == lost.trial + 1
    breaker.succeeded(warehouse_hook(), lost)
    breaker.failed(warehouse_hook(), lost)
    assert state()[0] == "half_open"


def test_a_call_from_before_the_opening_does_not_close_it(breaker: Any) -> None:
    from shared.loading.warehouse import warehouse_hook

    call(breaker, DownError())
    slow = breaker.admit(warehouse_hook())
    for _ in range(4):
        call(breaker, DownError())
    breaker.succeeded(warehouse_hook(), slow)
    breaker.failed(warehouse_hook(), slow)
    assert state() == ("open", 5)


def lose_the_state(error: BaseException | None = None) -> None:
    """From here on the warehouse refuses what the breaker writes; then the call fails where an error is given."""
    from shared.loading.warehouse import execute, transaction, warehouse_hook

    hook = warehouse_hook()
    with transaction(hook) as cursor:
        execute(hook, cursor, "DROP TABLE circuit_breakers")
    if error:
        raise error


def test_a_call_that_went_well_is_not_undone_by_a_state_that_cannot_be_written(
    breaker: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the task fails, and its next try sends the same POST again."""
    open_it(breaker)
    clock.now += 300
    sent = []
    with breaker.guard():
        sent.append("POST")
        lose_the_state()
    assert sent == ["POST"]
    assert "Circuit of tower: the call is made, but what became of it is not noted" in caplog.text


@pytest.mark.parametrize("error", [DownError("503"), KeyError("404"), AirflowTaskTimeout("60 s")], ids=repr)
def test_a_call_that_failed_ends_with_its_own_error_though_the_state_cannot_be_written(
    breaker: Any, clock: Clock, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    open_it(breaker)
    clock.now += 300
    with pytest.raises(type(error)) as raised, breaker.guard(counts=lambda error: isinstance(error, DownError)):
        lose_the_state(error)
    assert raised.value is error
    assert "Circuit of tower: the call is made, but what became of it is not noted" in caplog.text


def interrupted(*_: Any) -> None:
    """The time limit of the task ends just now."""
    raise AirflowTaskTimeout("60 s")


def test_a_time_limit_that_ends_while_the_state_is_written_does_not_undo_the_call(
    breaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(breaker), "succeeded", interrupted)
    monkeypatch.setattr(type(breaker), "failed", interrupted)
    with breaker.guard():
        pass
    with pytest.raises(DownError), breaker.guard():
        raise DownError("503")


def test_a_task_that_is_stopped_while_the_state_is_written_stops(breaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(type(breaker), "succeeded", stopped)
    with pytest.raises(SystemExit), breaker.guard():
        pass


def test_without_a_state_that_can_be_read_no_call_is_made(breaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "sqlite", "host": "/no/such/folder/warehouse.db"}')
    sent = []
    with pytest.raises(Exception, match="unable to open"), breaker.guard():
        sent.append("POST")
    assert sent == []


def work(barrier: Any, answers: Any, job: Callable[[Any], str], clock: Clock) -> None:
    """A worker pod: a process of its own that begins together with the others."""
    from shared.calling.circuit_breaker import CircuitBreaker

    barrier.wait(timeout=60)
    try:
        answers.put(job(CircuitBreaker("tower", clock=clock)))
    finally:
        answers.close()
        answers.join_thread()
        os._exit(0)


def at_once(count: int, job: Callable[[Any], str], clock: Clock) -> list[str]:
    """What each of `count` processes answers."""
    barrier, answers = FORK.Barrier(count), FORK.Queue()
    workers = [FORK.Process(target=work, args=(barrier, answers, job, clock)) for _ in range(count)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    return found


def test_failures_of_workers_at_once_are_all_counted(warehouse: str, clock: Clock) -> None:
    """The table is not there yet either."""
    assert at_once(4, lambda breaker: call(breaker, DownError()), clock) == ["made"] * 4
    assert state() == ("closed", 4)


def test_of_workers_at_once_one_makes_the_trial(breaker: Any, clock: Clock) -> None:
    from shared.loading.warehouse import warehouse_hook

    open_it(breaker)
    clock.now += 300

    together = FORK.Barrier(6)
    swap = type(breaker)._swap

    def try_it(mine: Any) -> str:
        def swap_together(*arguments: Any) -> bool:
            together.wait(timeout=60)  # all have seen the circuit open before the first changes it
            return swap(*arguments)

        type(mine)._swap = swap_together
        try:
            return f"trial {mine.admit(warehouse_hook()).trial}"
        except AirflowFailException as refusal:
            return str(refusal)

    found = at_once(6, try_it, clock)
    assert [answer for answer in found if answer.startswith("trial")] == ["trial 1"]
    assert sum("not called" in answer for answer in found) == 5


def test_the_clock_is_that_of_the_machine_by_default(warehouse: str) -> None:
    from shared.calling.circuit_breaker import CircuitBreaker

    breaker = CircuitBreaker("tower", failure_threshold=1)
    before = time.time()
    call(breaker, DownError())
    from shared.loading.warehouse import query, warehouse_hook

    retry_at = query(warehouse_hook(), "SELECT retry_at FROM circuit_breakers")[0]["retry_at"]
    assert before + 300 <= retry_at <= time.time() + 300
