"""What an upgrade has done so far, for people and for scripts."""

import json
from pathlib import Path
from typing import Any

from airflow_ops.cluster import lease
from airflow_ops.cluster.connection import connect
from airflow_ops.colours import live
from airflow_ops.colours.record import Record, RecordStore, Side
from airflow_ops.console import fail, out, show, styled, table
from airflow_ops.environments.environment import Environment
from airflow_ops.manifests.objects import Colour
from airflow_ops.upgrades import migration, prober, report_file


def describe(side: Side) -> str:
    """A colour with its version, for a sentence."""
    return f"{side.colour} ({side.version})"


def show_record(record: Record) -> None:
    """Print the states with their times, and what the prober counted."""
    rows = table("state", "to", "began (UTC)", "seconds")
    for passage in record.passages:
        seconds = f"{(passage.ended - passage.began).total_seconds():.1f}" if passage.ended else "not ended"
        rows.add_row(str(passage.state), str(passage.to), f"{passage.began:%H:%M:%S}", seconds)
    show(rows)
    rows = table("requests", "sent", "failed", "slowest")
    for name, probed in record.probed.items():
        rows.add_row(name, str(probed.requests), str(probed.failed), f"{probed.worst_ms} ms")
    if record.probed:
        show(rows)


def show_status(environment: Environment, as_json: bool) -> None:
    """Show the colours of an environment on the current cluster, the last upgrade, and which operation runs.

    Raises:
        ProblemError: The cluster is not the environment's, or does not answer.
    """
    cluster = connect(environment)
    record = RecordStore(cluster).read()
    if record is not None:
        record.probed = prober.counted_so_far(cluster, record)
    components = {str(colour): _components(live.deployments(cluster, colour)) for colour in Colour}
    active, operation = live.live_colour(cluster), lease.current(cluster)
    if as_json:
        report = {
            "environment": environment.name,
            "active_colour": active,
            "operation": operation,
            "components": components,
            "upgrade": record and json.loads(record.model_dump_json()),
        }
        out.print_json(data=report)
        return
    out.print(f"users of {environment.name} reach {active or 'no colour: it is not deployed'}")
    _show_components(components)
    out.print(f"operation: {operation or 'none'}")
    if record is None:
        out.print("there was no upgrade yet")
        return
    said = f", because {record.reason}" if record.reason else ""
    out.print(
        f"upgrade from {describe(record.source)} to {describe(record.target)}:", styled(f"{record.phase}{said}", "bold")
    )
    show_record(record)


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


def _show_components(components: dict[str, dict[str, dict[str, int]]]) -> None:
    rows = table("component", *components)
    for name in sorted({name for of_colour in components.values() for name in of_colour}):
        cells = [
            f"{of_colour[name]['ready']} of {of_colour[name]['replicas']} ready" if name in of_colour else "-"
            for of_colour in components.values()
        ]
        rows.add_row(name, *cells)
    if rows.row_count:
        show(rows)
