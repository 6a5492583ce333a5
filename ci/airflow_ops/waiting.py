"""Waiting for something on a cluster or a server: the one place that polls."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_delay, wait_fixed

T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float, pause: float = 1.0) -> T:
    """Call a function until its result is true, or time is up.

    Args:
        condition: The function; an error that it raises ends the wait.
        seconds: How long to wait at most; the function is called at least once.
        pause: Seconds between two calls.

    Returns:
        The last result: a false one means that time is up.
    """

    def last_answer(state: RetryCallState) -> T:
        if state.outcome is None:
            raise AssertionError("tenacity stops after an answer")
        answer: T = state.outcome.result()
        return answer

    poll = Retrying(
        retry=retry_if_result(lambda answer: not answer),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(pause),
        retry_error_callback=last_answer,
    )
    return poll(condition)
