"""`up`, `down` and `status`: the platform on this machine."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from airflow_client.client import ApiClient, DAGApi, DagStatsApi, ImportErrorApi
from rich.progress import Progress

from airflow_ops.cluster import airflow_api
from airflow_ops.console import fail, out, progress, show, styled, table
from airflow_ops.local import objects, pipeline
from airflow_ops.local.processes import COMPONENTS, LocalProcesses, run_airflow
from airflow_ops.local.settings import (
    USER,
    LocalSettings,
    local_settings,
    metadata_database,
    passwords_file,
    write_settings,
)
from airflow_ops.paths import STATE, dag_ids
from airflow_ops.waiting import wait_until

HEALTHY_SECONDS = 180.0
"""The four Airflow processes start in 20 s, measured on two idle cores; the rest is for busy machines."""
DAGS_SECONDS = 120.0
DEFAULT_PORT = 8080
NOT_RUNNING = 3
"""Exit code of `status` when not every component is healthy, the same as that of systemctl."""
HEALTH_KEYS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


def up(
    port: Annotated[
        int | None, typer.Option(min=1, max=65533, help="Port of the web page; the next two ports serve logs.")
    ] = None,
) -> None:
    """Start Airflow on this machine and load January 2013 of the flights.

    Does nothing if Airflow runs and the data is loaded. The first start makes
    the password of the page and shows it; later the file that holds it is named.

    Example: airflow-ops up --port 9080
    """
    processes = LocalProcesses()
    if port and processes.alive() and port != processes.port():
        raise fail(f"Airflow runs on port {processes.port()} already.", "Stop it first: make down.")
    settings = local_settings(port or processes.port() or DEFAULT_PORT)
    with progress() as bar:
        started = _start(processes, settings, bar)
        client = airflow_api.api_client(settings.url, USER, settings.password)
        objects.import_variables(client, settings.variables)
        objects.import_pools(settings)
        _wait(bar, "DAGs parsed", DAGS_SECONDS, lambda: _dags_parsed(client), _logs_hint())
        loaded = pipeline.run_pipeline(client, bar)
    if not started and not loaded:
        out.print("already up")
    _print_summary(_report(processes, settings), settings)


def down() -> None:
    """Stop the Airflow of this machine; its data stays.

    Example: airflow-ops down
    """
    stopped = LocalProcesses().stop()
    out.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def show_status(as_json: bool) -> None:
    """Show the components, the DAG runs and the rows in the warehouse of this machine.

    Raises:
        typer.Exit: With code 3, if a component is not healthy.
    """
    processes = LocalProcesses()
    settings = local_settings(processes.port() or DEFAULT_PORT)
    report = _report(processes, settings)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print_summary(report, settings)
    if not all(component["healthy"] for component in report["components"]):
        raise typer.Exit(NOT_RUNNING)


def _start(processes: LocalProcesses, settings: LocalSettings, bar: Progress) -> list[str]:
    if set(processes.alive()) == set(COMPONENTS):
        started: list[str] = []
    else:
        write_settings(settings)
        line = bar.add_task("metadata database", total=1)
        run_airflow(settings, "db", "migrate")
        _enable_write_ahead_log(metadata_database(STATE))
        bar.update(line, completed=1)
        started = processes.start_missing(settings)
    _wait(bar, "components healthy", HEALTHY_SECONDS, lambda: _components_healthy(processes, settings), _logs_hint())
    return started


def _enable_write_ahead_log(path: Path) -> None:
    """Switch an SQLite file to write-ahead logging for good, so that four processes can read and write it at once."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")


def _logs_hint() -> str:
    return f"See {STATE / 'logs'}/<component>.log; run `make down`, correct the cause, and run `make up` again."


def _wait(bar: Progress, what: str, seconds: float, healthy: Callable[[], tuple[int, int]], hint: str) -> None:
    """Wait until both numbers of `healthy`, done and total, are equal."""
    line = bar.add_task(what, total=None)
    done, total = 0, 0

    def is_done() -> bool:
        nonlocal done, total
        done, total = healthy()
        bar.update(line, completed=done, total=total)
        return done >= total

    if not wait_until(is_done, seconds, 0.5):
        raise fail(f"{what}: {done} of {total} after {seconds:.0f} s.", hint)


def _components_healthy(processes: LocalProcesses, settings: LocalSettings) -> tuple[int, int]:
    alive = processes.alive()
    dead = [name for name in COMPONENTS if name not in alive]
    if dead:
        tail = "\n".join(processes.log(dead[0]).read_text(errors="replace").splitlines()[-15:])
        raise fail(f"{dead[0]} ended while it started:\n{tail}", _logs_hint())
    components = _components(processes, settings)
    return sum(component["healthy"] for component in components), len(components)


def _dags_parsed(client: ApiClient) -> tuple[int, int]:
    errors = ImportErrorApi(client).get_import_errors().import_errors
    if errors:
        raise fail(
            f"{errors[0].filename} cannot be imported:\n{errors[0].stack_trace}",
            "Correct that file; Airflow reads it again by itself.",
        )
    known = {dag.dag_id for dag in DAGApi(client).get_dags(limit=1000).dags}
    return len(known & set(dag_ids())), len(dag_ids())


def _components(processes: LocalProcesses, settings: LocalSettings) -> list[dict[str, Any]]:
    alive = processes.alive()
    body = airflow_api.health(settings.url) if "api-server" in alive else {}
    found = [{"name": "api-server", "healthy": bool(body)}]
    for name, key in HEALTH_KEYS.items():
        healthy = name in alive and body.get(key, {}).get("status") == "healthy"
        found.append({"name": name, "healthy": healthy})
    found.append({"name": "metadatabase", "healthy": body.get("metadatabase", {}).get("status") == "healthy"})
    return found


def _dag_runs(settings: LocalSettings) -> dict[str, dict[str, int]]:
    client = airflow_api.api_client(settings.url, USER, settings.password)
    stats = DagStatsApi(client).get_dag_stats(dag_ids=dag_ids()).dags
    counted = {dag.dag_id: {state.state.value: state.count for state in dag.stats if state.count} for dag in stats}
    return {dag_id: counted.get(dag_id, {}) for dag_id in dag_ids()}


def warehouse_rows(path: Path) -> dict[str, int]:
    """Number of rows by table of the local warehouse; {} before it exists."""
    if not path.exists():
        return {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        # A table's name cannot be a query parameter; these names come from the database itself.
        return {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in tables}  # noqa: S608


def _report(processes: LocalProcesses, settings: LocalSettings) -> dict[str, Any]:
    components = _components(processes, settings)
    api_up = components[0]["healthy"]
    return {
        "components": components,
        "dag_runs": _dag_runs(settings) if api_up else {},
        "warehouse": warehouse_rows(STATE / "warehouse.db"),
        "url": settings.url,
    }


def _print_summary(report: dict[str, Any], settings: LocalSettings) -> None:
    for title, rows in (
        (
            "component",
            {c["name"]: "healthy" if c["healthy"] else styled("not healthy", "red") for c in report["components"]},
        ),
        ("DAG", {d: ", ".join(f"{n} {s}" for s, n in runs.items()) or "-" for d, runs in report["dag_runs"].items()}),
        ("warehouse table", {name: f"{count:,} rows" for name, count in report["warehouse"].items()}),
    ):
        filled = table(title, "")
        filled.columns[0].min_width = 24
        for name, text in rows.items():
            filled.add_row(name, text)
        show(filled)
        out.print()
    reports = sorted((STATE / "object-storage/reports").glob("*/*/index.html"))
    for path in reports:
        out.print(f"report  {path}", soft_wrap=True)
    if report["components"][0]["healthy"]:
        password = settings.password if settings.is_new else f"in {passwords_file(STATE)}"
        out.print(f"page    {report['url']}   user {USER}   password {password}", soft_wrap=True)
    else:
        out.print("Airflow does not run here: make up")
