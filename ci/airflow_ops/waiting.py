"""Waiting for something on a cluster or a server: the one place that polls."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_delay, wait_fixed

T = TypeVar("T")


def wait_until(look: Callable[[], T], seconds: float, pause: float = 1.0) -> T:
    """Ask again and again until the answer is true, or time is up.

    Args:
        look: Asks; an error that it raises ends the wait.
        seconds: How long to wait at most; it is asked once at least.
        pause: Seconds between two questions.

    Returns:
        The last answer: a false one means that time is up.
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
    return poll(look)
