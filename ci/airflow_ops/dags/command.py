"""`dags`: make, inspect, check and run DAGs. Each verb imports what it needs when it is called."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from airflow_ops.console import command_group, counted, out, show, table
from airflow_ops.options import LONGEST_WAIT, AsJson, EnvironmentName, TrialOverlays

app = command_group("dags", "Make, inspect, check and run DAGs: new, lint, test, run-all, then push.")

Environment = Annotated[
    str | None,
    typer.Option("--env", metavar="ENV", help="An environment on a cluster; by default the Airflow of `make up`."),
]
Hours = Annotated[int, typer.Option(min=1, max=87_600)]
DagId = Annotated[str, typer.Argument(metavar="DAG")]
Partition = Annotated[
    str | None, typer.Option(metavar="KEY", help="Day or month of the run, 2013-01-15 or 2013-01.", show_default=False)
]


@app.command()
def new(
    dag_id: Annotated[str, typer.Argument(metavar="DAG", help="{domain}_{action}_{target}, optionally ending in _vN.")],
    owner: Annotated[str, typer.Option(help="The team that is responsible for it.")],
    schedule: Annotated[str | None, typer.Option(help="A cron expression; without one it is started by hand.")] = None,
) -> None:
    """Write a DAG and its test, which pass `dags lint` and pytest at once.

    Example: airflow-ops dags new flights_export_carriers --owner flights --schedule "0 5 * * *"
    """
    from airflow_ops.dags.scaffold import scaffold

    for path in scaffold(dag_id, owner, schedule):
        out.print(f"wrote {path}")
    out.print(f"next: airflow-ops dags lint {dag_id}, airflow-ops dags test {dag_id}")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the DAGs of this checkout: schedule, owner, worker sizes, pools. Needs no running Airflow.

    Example: airflow-ops dags list --json
    """
    from airflow_ops.dags.catalogue import catalogue

    entries = catalogue()
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    _print_table(
        ("DAG", "schedule", "owner", "tasks", "sizes", "pools"),
        [
            (e.dag_id, e.schedule, ", ".join(e.owners), str(e.tasks), ", ".join(e.sizes), ", ".join(e.pools))
            for e in entries
        ],
        whole=2,
    )


@app.command()
def lint(
    dags: Annotated[list[str] | None, typer.Argument(metavar="DAG|FILE", help="All of them by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check DAG files as CI does: what they do while parsed, imports, timeouts, sizes, pools.

    Exit code 1 if a rule is broken.

    Example: airflow-ops dags lint flights_ingest_daily dags/flights/flights_report_monthly.py
    """
    from airflow_ops.dags.lint import files_of, lint_files, where

    found = lint_files(files_of(dags or []))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        for violation in found.violations:
            out.print(where(violation))
        files, violations = counted(len(found.costs), "file"), counted(len(found.violations), "violation")
        out.print(f"{files}, {violations}")
    if found.violations:
        raise typer.Exit(1)


@app.command()
def inspect(
    dag_id: DagId, env: Environment = None, overlay: TrialOverlays = None, hours: Hours = 24, as_json: AsJson = False
) -> None:
    """Show a DAG of a running Airflow: states, run times, failures, last runs, import errors.

    Exit code 1 if its file cannot be imported.

    Example: airflow-ops dags inspect flights_ingest_daily --env dev --hours 48
    """
    from airflow_ops.dags.inspector import inspect_dag
    from airflow_ops.dags.login import running_airflow

    with running_airflow(env, overlay) as client:
        found = inspect_dag(client, dag_id, hours)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        found.show()
    if found.import_errors:
        raise typer.Exit(1)


@app.command()
def slow(
    env: Environment = None,
    overlay: TrialOverlays = None,
    days: Annotated[int, typer.Option(min=1, max=3650)] = 7,
    threshold: Annotated[
        int,
        typer.Option(min=0, max=LONGEST_WAIT, help="A task is slow if its 95th percentile is above so many seconds."),
    ] = 300,
    top: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List the slowest tasks and DAG files of a running Airflow.

    Example: airflow-ops dags slow --env prod --days 7 --threshold 300
    """
    from airflow_ops.dags.inspector import parse_seconds, slow_tasks
    from airflow_ops.dags.login import running_airflow

    with running_airflow(env, overlay) as client:
        tasks, files = slow_tasks(client, days, threshold)[:top], parse_seconds(client)[:top]
    if as_json:
        typer.echo(json.dumps({"tasks": [asdict(item) for item in tasks], "files": dict(files)}, indent=2))
        return
    if not tasks:
        out.print(f"no task whose 95th percentile of {days} days is above {threshold} s")
    _print_table(
        ("task", "runs", "p50 s", "p95 s", "max s"),
        [(t.task, str(t.count), *(f"{s:.1f}" for s in (t.p50, t.p95, t.longest))) for t in tasks],
    )
    _print_table(("DAG file", "last parse s"), [(name, f"{seconds:.2f}") for name, seconds in files])


@app.command("test")
def run_one(
    dag_id: DagId,
    partition: Partition = None,
    conf: Annotated[str | None, typer.Option(help="The run's conf, as a JSON object.")] = None,
    up: Annotated[bool, typer.Option("--up", help="Use the warehouse and object storage of `make up`.")] = False,
) -> None:
    """Run a DAG to its end without scheduler and workers: every task one after the other.

    It uses an empty warehouse and object storage of its own unless --up is given.
    Exit code 1 if the run fails.

    Example: airflow-ops dags test flights_ingest_daily --partition 2013-01-15
    """
    from airflow_ops.dags.one_run import run_here

    if not run_here(dag_id, partition, conf, up):
        raise typer.Exit(1)


@app.command("run-all")
def run_all(
    dags: Annotated[list[str] | None, typer.Argument(metavar="DAG", help="All of them by default.")] = None,
    at_once: Annotated[
        int, typer.Option(min=1, max=100, help="Runs at the same time; two cores take no more than a few.")
    ] = 4,
    as_json: AsJson = False,
) -> None:
    """Run every DAG on the Airflow of `make up`, and check that each ends as expected.

    dags/config/trials.yaml has the expected end, which may be a failure; a DAG
    that is not in it has to succeed. Exit code 1 if a run ends otherwise.

    Example: airflow-ops dags run-all flights_count_day platform_call_api
    """
    from airflow_ops.dags.run_all import Outcome, run_trials
    from airflow_ops.dags.trials import load_trials

    outcomes: list[Outcome] = run_trials(load_trials(dags or []), at_once)
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in outcomes], indent=2))
    else:
        _print_table(
            ("DAG", "trial", "end", "wanted", "seconds", ""),
            [
                (o.dag_id, o.trial, o.end, o.wanted, f"{o.seconds:.0f}", "; ".join(o.faults) or "as designed")
                for o in outcomes
            ],
        )
        bad = sum(bool(o.faults) for o in outcomes)
        out.print(f"{counted(len(outcomes), 'run')}, {bad} not as designed")
    if any(o.faults for o in outcomes):
        raise typer.Exit(1)


def _print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]], whole: int = 1) -> None:
    if not rows:
        return
    filled = table(*columns, whole=whole)
    for row in rows:
        filled.add_row(*row)
    show(filled)


@app.command()
def upload(name: EnvironmentName, overlay: TrialOverlays = None) -> None:
    """Copy the DAGs of a tag to object storage, for an environment whose global.dagBundle.kind is s3.

    The tag is global.dagBundle.trackingRef. Each tag has a folder of its own
    below global.dagBundle.uri, which never changes again. What is there already
    is not sent again, so a copy that was cut off goes on. The credentials are
    yours, as for `aws s3 cp`.

    Example: airflow-ops dags upload prod
    """
    from airflow_ops.delivery.dag_upload import upload

    upload(name, overlay)
