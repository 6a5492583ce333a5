"""What happens in each state of an upgrade. Every step may be repeated: one that was cut off is run again."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from airflow_ops.cluster import airflow_api, jobs
from airflow_ops.cluster.connection import Cluster
from airflow_ops.colours import live
from airflow_ops.colours.live import API_SERVER, JOB_TYPES, SINGLE, USERS, execution_service
from airflow_ops.colours.record import Probed, Record, Side, State
from airflow_ops.console import ProblemError, RefusalError, counted, err, fail, out, styled
from airflow_ops.deployment import helm, smoke
from airflow_ops.manifests.objects import Colour, Release, releases
from airflow_ops.recovery import backup as backups
from airflow_ops.upgrades import dag_check, migration, prober, queue_hold, rehearsal, token_check
from airflow_ops.waiting import wait_until

DRAIN_SECONDS = 30
"""How long nothing is queued while queued tasks get their pods; a pod starts in 5 to 10 s where there is room."""
ALIVE_SECONDS = 180
"""For the components of the other colour to work once these have ended; they have imported everything already."""
STANDBY = tuple(f"airflow.{component}.replicas=0" for component in ("scheduler", "dagProcessor", "triggerer"))
"""Values of a colour that is installed and does not work yet. Its API servers run already: where an autoscaler sets
their number, Helm would turn a 0 of before into 1 and not into what the autoscaler wants (helm/helm#12650)."""
ANSWERS = 8
"""Requests of each kind after which it is seen whether the other API servers answer; the prober sends two a second."""
ANSWER_SECONDS = 30
MOST_FAILED = 0.01
"""Share of the prober's requests that may fail in an upgrade that is not taken back."""


@dataclass
class Move:
    """The work of an environment moves to a colour: forward in an upgrade, back in a rollback.

    Attributes:
        cluster: The environment.
        record: The upgrade that it belongs to.
        to: The colour that is to work.
        brings_platform: Whether a promotion installs the platform's release. False where somebody else brings it:
            Argo CD, or the `helm upgrade` whose hook this is.
    """

    cluster: Cluster
    record: Record
    to: Side
    brings_platform: bool = True

    @property
    def is_forward(self) -> bool:
        """Whether this is the way of the upgrade and not that of its rollback."""
        return self.to.colour is self.record.target.colour

    @property
    def away(self) -> Side:
        """The colour that works before."""
        return self.record.source if self.is_forward else self.record.target

    def release(self, side: Side, *settings: str) -> Release:
        """The Helm release of a colour."""
        _, release = releases(self.cluster.environment, side.colour)
        return replace(release, settings=settings)

    def _install(self, release: Release, seconds: int, state: State) -> None:
        helm.install(self.cluster, release, seconds, self.record.cut_off(state, self.to.colour))

    def states(self) -> dict[State, str]:
        """The states of this way in order, with what is told."""
        if not self.is_forward:
            return BACK
        return {**MIGRATION, **FORWARD} if self.record.migrates else FORWARD

    def step(self, state: State) -> Callable[[], None]:
        """What is done in a state."""
        return {
            State.SNAPSHOT: self.snapshot,
            State.REHEARSE: self.rehearse,
            State.MIGRATE: self.migrate,
            State.PREPARE: self.prepare,
            State.WARM: self.warm,
            State.SWITCH: self.switch,
            State.QUIESCE: self.quiesce,
            State.HANDOVER: self.hand_over,
            State.VERIFY: self.verify,
            State.FINALIZE: self.finalize,
        }[state]

    def snapshot(self) -> None:
        """Back up the metadata database."""
        job = backups.backup_job(backups.cron_job(self.cluster))
        made = jobs.run_for_result(self.cluster, job, "backing up")
        self.record.backup = made["name"]
        out.print(f"  backup {made['name']} ({backups.megabytes(made['bytes'])})")

    def rehearse(self) -> None:
        """Migrate a copy of the metadata database, and let both versions work on it."""
        self.record.rehearsal = found = rehearsal.rehearse(self.cluster, self.record)
        out.print(f"  {self.record.source.version} works on the schema of {self.record.target.version}; ", end="")
        out.print(f"the migration of a copy took {found.migration_seconds:.0f} s")

    def migrate(self) -> None:
        """Migrate the metadata database."""
        done = migration.migrate(self.cluster, self.record)
        bridged = f", with a default for {', '.join(done['bridged'])}" if done["bridged"] else ""
        out.print(f"  migrated in {done['seconds']:.0f} s, try {done['tries']}{bridged}")

    def prepare(self) -> None:
        """Install the other colour: its API servers start, nothing of it works."""
        if self.is_forward and not self.record.migrates:
            migration.give_rights(self.cluster)
        live.remove_idle(self.cluster, self.to.colour)
        self._install(self.release(self.to, *STANDBY), helm.INSTALL_SECONDS, State.PREPARE)
        live.suspend(self.cluster, self.to.colour, True)

    def warm(self) -> None:
        """Start the other colour's API servers and warm them; then its other components, which wait at their start.

        Raises:
            ProblemError: One does not start; or forward, a DAG file cannot be imported that could be before.
        """
        colour, replicas = self.to.colour, self.to.replicas
        if self.to.least is not None:
            live.autoscale(self.cluster, colour, replicas[API_SERVER])
        # PgBouncer and statsd first, without which the others do not start; a promotion that was cut off stopped them.
        shared = {component: count for component, count in replicas.items() if component not in SINGLE}
        live.scale(self.cluster, colour, shared)
        for component in shared:
            live.wait_until_ready(self.cluster, colour, component)
        live.warm_api_servers(self.cluster, colour, self.to.version)
        # Its tasks may start as soon as its scheduler works: when the other one has ended, for whatever reason.
        live.point(self.cluster, [execution_service(colour)], colour)
        live.scale(self.cluster, colour, {component: replicas[component] for component in SINGLE})
        with queue_hold.watch(self.cluster, hold=False) as view:
            for component in SINGLE:
                live.wait_until_started(
                    self.cluster, colour, component, replicas[component], partial(self._works, view, component)
                )
        if self.is_forward:
            dag_check.check(self.cluster, self.away.colour, colour)

    def switch(self) -> None:
        """Lead users, and forward also the tasks of the old colour, to the other API servers.

        Backward the tasks that the new colour started stay with its API servers: an older one may not understand them.

        Raises:
            ProblemError: Forward, they refuse the tokens of the old colour's users and tasks, or do not answer.
        """
        if self.is_forward:
            token_check.check(self.cluster, self.away.colour, self.to.colour)
        services = [USERS, execution_service(self.record.source.colour)]
        before = prober.counted_so_far(self.cluster, self.record)
        live.point(self.cluster, services, self.to.colour)
        if self.is_forward:
            self._check_answers(before)

    def _check_answers(self, before: dict[str, Probed]) -> None:
        """See that the other API servers answer users and tasks, while scheduling still goes on where it was.

        Raises:
            ProblemError: Most requests of one kind fail.
        """

        def since() -> dict[str, Probed]:
            return prober.difference(prober.counted_so_far(self.cluster, self.record), before)

        wait_until(lambda: all(each.requests >= ANSWERS for each in since().values()), ANSWER_SECONDS, 1)
        for name, each in since().items():
            if each.failed > each.requests / 2:
                first = next(iter(each.failures), "no answer")
                raise fail(
                    f"{each.failed} of {each.requests} requests failed, the first with {first} ({name}).",
                    f"Look at the API servers' logs of {self.to.colour}.",
                )

    def quiesce(self) -> None:
        """Stop what works in one colour only, while no task is queued and every queued task has its pod."""
        if not self.is_forward:
            migration.make_readable(self.cluster, self.record)
            if unreadable := migration.unreadable_tasks(self.cluster, self.record):
                err.print(
                    styled("warning", "yellow"),
                    f"Airflow {self.to.version} does not know the state of {', '.join(unreadable[:5])}: "
                    "mark them as failed before you look for them",
                )
        began = time.monotonic()
        with queue_hold.watch(self.cluster, hold=True) as view:
            held = time.monotonic()
            if left := queue_hold.drain(self.cluster, view, DRAIN_SECONDS):
                names = ", ".join(f"{task.dag_id}.{task.task_id}" for task in left[:5])
                have = "task has" if len(left) == 1 else "tasks have"
                out.print(f"  {len(left)} queued {have} no pod after {DRAIN_SECONDS} s ({names}): queued again later")
            live.scale(self.cluster, self.away.colour, dict.fromkeys(SINGLE, 0))
            self._wait_for_end(view)
        out.print(
            f"  hold began after {held - began:.1f} s, was drained and stopped after {time.monotonic() - held:.1f} s"
        )
        live.wait_until_gone(self.cluster, self.away.colour, SINGLE)

    def _wait_for_end(self, view: queue_hold.View) -> None:
        """Wait until no scheduler of the colour that stops is alive: then the hold may end."""
        colour = self.away.colour

        def has_ended() -> bool:
            view.refresh()
            return not view.alive_of(JOB_TYPES["scheduler"], colour)

        if not wait_until(has_ended, live.STOP_SECONDS, 0):
            raise fail(
                f"the scheduler of {colour} did not end in {live.STOP_SECONDS} s.", "Look at its pod and its log."
            )

    def hand_over(self) -> None:
        """Wait until the other colour's components work; then give its release the values without standby."""
        colour = self.to.colour
        live.scale(self.cluster, colour, {component: self.to.replicas[component] for component in SINGLE})
        with queue_hold.watch(self.cluster, hold=False) as view:
            for component in SINGLE:
                if not wait_until(partial(self._works, view, component), ALIVE_SECONDS, 0):
                    raise fail(
                        f"{component} of {colour} does not work {ALIVE_SECONDS} s after the other colour's ended.",
                        f"Look at the log of {live.deployment_name(colour, component)}.",
                    )
        if self.is_forward:
            self._install(self.release(self.to), helm.INSTALL_SECONDS, State.HANDOVER)
        live.suspend(self.cluster, self.away.colour, True)
        live.suspend(self.cluster, colour, False)

    def _works(self, view: queue_hold.View, component: str) -> bool:
        view.refresh()
        return len(view.alive_of(JOB_TYPES[component], self.to.colour)) >= self.to.replicas[component]

    def verify(self) -> None:
        """Run the canary in the colour that works now; compare import errors of DAG files; look at the prober's counts.

        On the way back a failure is only told: there is no other way left.

        Raises:
            ProblemError: The canary fails, more DAG files cannot be imported than before, or requests have failed.
        """
        try:
            self._check_work()
        except ProblemError as problem:
            if self.is_forward:
                raise
            err.print(styled("warning", "yellow"), problem.message)

    def _check_work(self) -> None:
        smoke.check(self.cluster)
        if broken := sorted(set(airflow_api.import_errors_of(self.cluster)) - set(self.record.import_errors)):
            raise fail(
                f"{counted(len(broken), 'DAG file')} can no longer be imported: {', '.join(broken[:5])}.",
                "Look at the import errors on the page. Both versions have to be able to import every DAG file.",
            )
        probed = prober.counted_so_far(self.cluster, self.record).values()
        sent, failed = sum(each.requests for each in probed), sum(each.failed for each in probed)
        if failed > MOST_FAILED * sent:
            first = next(each.failures[0] for each in probed if each.failures)
            raise fail(f"{failed} of {sent} requests failed, the first with {first}.", "Look at the API servers' logs.")

    def finalize(self) -> None:
        """Stop what is left of the colour that does not work any more; forward, let the platform's release follow.

        Raises:
            RefusalError: Back: tasks that the new colour started still run.
        """
        if not self.is_forward and (running := live.worker_pods(self.cluster, self.away.colour)):
            raise RefusalError(
                f"{len(running)} tasks that {self.away.colour} started still run and need its API server.",
                "Nothing was changed. Run the same command again once they have ended.",
            )
        if self.is_forward:
            if self.brings_platform:
                seconds = helm.platform_seconds(self.cluster.environment)
                self._install(platform_release(self.cluster, self.to.colour), seconds, State.FINALIZE)
            else:
                migration.run_job(self.cluster, platform_release(self.cluster, self.to.colour))
            migration.remove_bridges(self.cluster, self.to.version)
        else:
            migration.end_rewriting(self.cluster, self.record)
            live.point(self.cluster, [execution_service(self.away.colour)], self.to.colour)
            live.autoscale(self.cluster, self.to.colour, self.to.least)
        everything = dict.fromkeys(live.deployments(self.cluster, self.away.colour), 0)
        live.scale(self.cluster, self.away.colour, everything)


def platform_release(cluster: Cluster, active: Colour) -> Release:
    """The platform's release with a colour as the active one, whatever the values say."""
    platform, _ = releases(cluster.environment, active)
    return replace(platform, settings=(f"global.activeColour={active}",))


MIGRATION = {
    State.SNAPSHOT: "back up the metadata database",
    State.REHEARSE: "migrate a copy of the metadata database; try both versions on it",
    State.MIGRATE: "migrate the metadata database while the present version works",
}
"""The first states of an upgrade to another schema. Nothing that runs is changed before MIGRATE."""
FORWARD = {
    State.PREPARE: "install the other colour; its API servers start",
    State.WARM: "warm its API servers; start its other components, which wait",
    State.SWITCH: "lead users and tasks to its API servers",
    State.QUIESCE: "stop scheduler, DAG processor and triggerer of the present colour",
    State.HANDOVER: "wait until those of the other colour work",
    State.VERIFY: "run the canary",
}
"""The states of an upgrade in order, with what is told."""
BACK = {
    State.WARM: "see that the former colour's API servers run; start its other components, which wait",
    State.QUIESCE: "stop scheduler, DAG processor and triggerer of the new colour",
    State.HANDOVER: "wait until those of the former colour work",
    State.SWITCH: "lead users and the former colour's tasks to its API servers",
    State.VERIFY: "run the canary",
}
"""The states of a rollback. Users follow last, because what the new colour still writes an older one may not read."""
