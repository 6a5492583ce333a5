"""Default arguments of tasks: retries, delays, timeouts and callbacks, by the kind of work."""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from shared.authoring.notifications import log_retry, notify_failure
from shared.authoring.resources import resources
from shared.authoring.retry_policy import RetryWhatCanHeal
from shared.authoring.settings import settings


@dataclass(frozen=True)
class Profile:
    """How often and how long a kind of work is tried; the names are those of Airflow's task arguments."""

    retries: int
    retry_delay: timedelta
    max_retry_delay: timedelta
    execution_timeout: timedelta
    retry_exponential_backoff: float = 2.0


PROFILES = {
    "default": Profile(
        retries=3,
        retry_delay=timedelta(minutes=5),
        max_retry_delay=timedelta(hours=2),
        execution_timeout=timedelta(minutes=30),
    ),
    "api": Profile(
        retries=3,
        retry_delay=timedelta(minutes=5),
        max_retry_delay=timedelta(hours=1),
        execution_timeout=timedelta(minutes=30),
    ),
    "ml": Profile(
        retries=5,
        retry_delay=timedelta(seconds=30),
        max_retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(hours=2),
    ),
    "quick": Profile(
        retries=1,
        retry_delay=timedelta(seconds=10),
        max_retry_delay=timedelta(minutes=1),
        execution_timeout=timedelta(minutes=2),
    ),
}
"""Sources: `default`, `api` (HTTP services, an hour at most between tries) and `ml` (training: many quick tries, long
runs) are the profiles of the Airflow production field guides, with their task timeout of 30 minutes. `quick` is ours:
work that the next scheduled run repeats anyway, such as a check."""


def default_args(owner: str, profile: str = "default", **overrides: Any) -> dict[str, Any]:
    """The `default_args` of a DAG.

    The environment bounds the retries and scales both delays (`tasks` in `dags/config/environments/`). Delays double
    with each retry. A message is sent when no retry is left; a retry is only logged. The worker's size is `default`.

    Args:
        owner: The team that answers for the DAG.
        profile: A name in `PROFILES`.
        **overrides: Task arguments that replace those of the profile, taken as they are.

    Raises:
        ValueError: There is no such profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile {profile!r} does not exist: use one of {', '.join(PROFILES)}.")
    chosen, tasks = PROFILES[profile], settings().tasks
    return {
        **asdict(chosen),
        "owner": owner,
        "retries": min(chosen.retries, tasks.max_retries),
        "retry_delay": chosen.retry_delay * tasks.retry_delay_scale,
        "max_retry_delay": chosen.max_retry_delay * tasks.retry_delay_scale,
        "retry_policy": RetryWhatCanHeal(),
        "executor_config": resources("default"),
        "on_failure_callback": notify_failure,
        "on_retry_callback": log_retry,
        **overrides,
    }
