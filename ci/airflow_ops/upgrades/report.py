"""What an upgrade has done so far, for people and for scripts."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.client.exceptions import ApiException
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from urllib3.exceptions import HTTPError

from airflow_ops.cluster import lease
from airflow_ops.cluster.connection import Cluster, connect
from airflow_ops.colours import live
from airflow_ops.colours.record import Passage, Phase, Record, RecordStore, Side, now
from airflow_ops.console import ProblemError, err, fail, out, show, styled, table
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import migration, prober, report_file

MOVING = (Phase.UPGRADING, Phase.ROLLING_BACK)
WATCH_SECONDS = 2
PATIENCE_SECONDS = 60
"""For a control plane that is replaced."""


def describe(side: Side) -> str:
    """A colour with its version, for a sentence."""
    return f"{side.colour} ({side.version})"


def show_record(record: Record) -> None:
    """Print the states with their times, and what the prober counted."""
    for each in _of_record(record):
        show(each)


def _of_record(record: Record) -> list[Table]:
    rows = table("state", "to", "began (UTC)", "seconds")
    for passage in record.passages:
        rows.add_row(str(passage.state), str(passage.to), f"{passage.began:%H:%M:%S}", _seconds(passage, record))
    if not record.probed:
        return [rows]
    requests = table("requests", "sent", "failed", "slowest")
    for name, probed in record.probed.items():
        requests.add_row(name, str(probed.requests), str(probed.failed), f"{probed.worst_ms} ms")
    return [rows, requests]


def _seconds(passage: Passage, record: Record) -> str:
    if passage.ended:
        return f"{(passage.ended - passage.began).total_seconds():.1f}"
    # One before the last failed, or its command was killed.
    runs = passage is record.passages[-1] and record.phase in MOVING
    return f"{(now() - passage.began).total_seconds():.0f} so far" if runs else "not ended"


def show_status(environment: Environment, as_json: bool) -> None:
    """Show the colours of an environment on the current cluster, the last upgrade, and which operation runs.

    Raises:
        ProblemError: The cluster is not the environment's, or does not answer.
    """
    found = _look(connect(environment))
    if as_json:
        out.print_json(data=found.as_json())
        return
    _print(found)


def watch_status(environment: Environment) -> None:
    """Show the same again and again while an upgrade or a rollback goes on, then once more as it ended.

    On a terminal it is one picture that changes; elsewhere a line for each change of state.

    Raises:
        ProblemError: See `show_status`; later only if the cluster does not answer for `PATIENCE_SECONDS`.
    """
    cluster = connect(environment)
    found, said = _look(cluster), ""
    with Live(Group(*found.lines()), console=out, transient=True, auto_refresh=False) as picture:
        while found.is_moving:
            if out.is_terminal:
                picture.update(Group(*found.lines()), refresh=True)
            elif (state := found.state()) != said:
                out.print(state)
                said = state
            time.sleep(WATCH_SECONDS)
            found = _look_patiently(cluster)
    _print(found)
    if found.record is not None and found.record.phase in MOVING:
        err.print("nobody works on it: run the command that was cut off again")


def _print(found: "Status") -> None:
    for each in found.lines():
        show(each) if isinstance(each, Table) else out.print(each)


def _look_patiently(cluster: Cluster) -> "Status":
    """Look again, though the cluster may be away for a moment."""
    patient = Retrying(
        stop=stop_after_delay(PATIENCE_SECONDS),
        wait=wait_fixed(WATCH_SECONDS),
        retry=retry_if_exception_type((ApiException, HTTPError, ProblemError)),
        reraise=True,
    )
    return patient(_look, cluster)


@dataclass(frozen=True)
class Status:
    """An environment at one moment.

    Attributes:
        environment: Its name.
        active: The colour that users reach.
        operation: Who holds the environment.
        components: Replicas of each component, by colour.
        record: The last upgrade.
    """

    environment: str
    active: Colour | None
    operation: str
    components: dict[str, dict[str, dict[str, int]]]
    record: Record | None

    @property
    def is_moving(self) -> bool:
        """Whether an upgrade or a rollback is at work, or about to begin."""
        # Before the first state it is checked for a minute whether an upgrade may begin.
        return self.operation.startswith(("upgrade", "rollback", "reconcile"))

    def state(self) -> str:
        """What goes on, in a few words."""
        record = self.record
        if record is None or record.phase not in MOVING or not record.passages:
            return "checks before an upgrade"
        last = record.passages[-1]
        return f"{record.phase}: {last.state} ({last.to})"

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "environment": self.environment,
            "active_colour": self.active,
            "operation": self.operation,
            "components": self.components,
            "upgrade": self.record and json.loads(self.record.model_dump_json()),
        }

    def lines(self) -> list[Text | Table]:
        """The same for people."""
        lines: list[Text | Table] = [
            Text(f"users of {self.environment} reach {self.active or 'no colour: it is not deployed'}"),
            *_of_components(self.components),
            Text(f"operation: {self.operation or 'none'}"),
        ]
        record = self.record
        if record is None:
            return [*lines, Text("there was no upgrade yet")]
        said = f", because {record.reason}" if record.reason else ""
        title = f"upgrade from {describe(record.source)} to {describe(record.target)}: "
        return [*lines, Text.assemble(title, styled(f"{record.phase}{said}", "bold")), *_of_record(record)]


def _look(cluster: Cluster) -> Status:
    record = RecordStore(cluster).read()
    if record is not None:
        record.probed = prober.counted_so_far(cluster, record)
    return Status(
        environment=cluster.environment.name,
        active=live.live_colour(cluster),
        operation=lease.current(cluster),
        components={str(colour): _components(live.deployments(cluster, colour)) for colour in Colour},
        record=record,
    )


def write_report(environment: Environment, path: Path) -> None:
    """Write the report of an environment's last upgrade into a file.

    Raises:
        ProblemError: There was no upgrade, the file cannot be written, or the cluster does not answer.
    """
    cluster = connect(environment)
    record = RecordStore(cluster).read()
    if record is None:
        raise fail(f"there was no upgrade of {environment.name} yet.", "Nothing to report.", 2)
    record.probed = prober.counted_so_far(cluster, record)
    starts = [float(start) for (start,) in migration.execute(cluster, [report_file.query_of_starts(record)])[0]]
    report_file.write(path, environment.name, record, starts)
    out.print(styled("ok", "green"), f"{path}")


def _components(deployments: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {
        component: {"replicas": found.spec.replicas or 0, "ready": found.status.ready_replicas or 0}
        for component, found in sorted(deployments.items())
    }


def _of_components(components: dict[str, dict[str, dict[str, int]]]) -> list[Table]:
    rows = table("component", *components)
    for name in sorted({name for of_colour in components.values() for name in of_colour}):
        cells = [
            f"{of_colour[name]['ready']} of {of_colour[name]['replicas']} ready" if name in of_colour else "-"
            for of_colour in components.values()
        ]
        rows.add_row(name, *cells)
    return [rows] if rows.row_count else []
