"""One run through every way in which Airflow executes a task; what smoke tests and upgrades trigger."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from shared.authoring.defaults import default_args
from shared.authoring.notifications import notify_run_failure
from shared.authoring.resources import resources

NUMBERS = [1, 2, 3]


@task
def plain() -> str:
    return "ran"


@task
def square(number: int) -> int:
    return number**2


@task(retries=1, retry_delay=timedelta(seconds=1))
def retry() -> dict[str, int]:
    ti = get_current_context()["ti"]
    tries = {"this": ti.try_number, "last": ti.max_tries + 1}
    # Not "in try 1": a cleared run counts on from where it was, and must fail once again.
    if tries["this"] < tries["last"]:
        raise RuntimeError("Fails in its first try on purpose: the retry is what is tested.")
    return tries


class WaitInTriggerer(BaseOperator):
    """Leaves its worker at once, waits in the triggerer and comes back in a new worker."""

    def execute(self, context: Any) -> None:
        """Hand over to the triggerer; always, so that no fast path can hide that the triggerer is down."""
        # LocalExecutor notices only after five seconds that a worker has deferred its task. A trigger that fires before
        # makes Airflow take the task for failed.
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=10)), method_name="resume")

    def resume(self, context: Any, event: Any) -> str:
        """Return the moment that the trigger fired with, which a run without a triggerer cannot have."""
        return str(event)


@task
def verify(plain: str, squares: list[int], tries: dict[str, int], moment: str | None) -> None:
    broken = []
    if plain != "ran":
        broken.append(f"plain task: returned {plain!r}")
    if sorted(squares) != [number**2 for number in NUMBERS]:
        broken.append(f"mapped task: returned {list(squares)}")
    if tries["this"] != tries["last"] or tries["this"] < 2:
        broken.append(f"retrying task: succeeded in try {tries['this']} of {tries['last']}")
    if not moment:
        broken.append("deferrable task: did not come back from the triggerer")
    if broken:
        raise AirflowFailException("; ".join(broken))


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(minutes=10),
    default_args=default_args("platform", "quick", executor_config=resources("small")),
    is_paused_upon_creation=False,  # who triggers it waits for the end, and a paused DAG has none
    on_failure_callback=notify_run_failure,
    tags=["platform", "canary"],
)
def platform_run_canary() -> None:
    """### Canary: does this Airflow run tasks?

    Runs a plain, a mapped, a retrying and a deferrable task, then checks that each did what it should. The task
    `retry` fails in its first try on purpose. Has no schedule: smoke tests and upgrades trigger it.

    **If it fails** the task `verify` says which way of running tasks is broken. If it hangs: `plain` queued means the
    executor, `defer` deferred means the triggerer.
    """
    verify(plain(), square.expand(number=NUMBERS), retry(), WaitInTriggerer(task_id="defer").output)


platform_run_canary()
