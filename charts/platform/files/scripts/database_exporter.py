"""Metrics from the metadata database that StatsD does not have: waiting times, heartbeats, runs, sizes, connections.

Runs as a Deployment in environments with `platform.monitoring.databaseExporter.enabled`, against PostgreSQL. Every
statement is a short read in a transaction of its own, over the one connection that this process holds: a database that
takes no more connections is still watched. Serves /metrics, and /health for the probe, which asks no database.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from threading import Lock
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

PORT = 9103
STATEMENT_TIMEOUT = 2000
"""Milliseconds that a statement may take; all of them together stay below Prometheus' timeout of a scrape."""
LOCK_TIMEOUT = 500
"""Milliseconds to wait for a lock: a migration must not find readers waiting for its table."""
STUCK_RUNS_TOLD = 20
"""DAGs that `airflow_database_dag_runs_stuck` names at most: if there are more, the cause is not the DAGs."""

log = logging.getLogger("database-exporter")


@dataclass(frozen=True)
class Metric:
    """A gauge and the statement that reads it.

    Attributes:
        name: Its name without the prefix airflow_database_.
        documentation: What it says, with its unit.
        statement: Gives a row a series: its labels in this order, then its value.
        labels: Names of the labels.
        always: Values of the labels whose series is 0 where the statement has no row for it.
    """

    name: str
    documentation: str
    statement: str
    labels: tuple[str, ...] = ()
    always: tuple[tuple[str, ...], ...] = ()


def _each(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


UNFINISHED_TASKS = (
    *("scheduled", "queued", "running", "restarting"),
    *("deferred", "up_for_retry", "up_for_reschedule", "awaiting_input"),
)
TABLES = ("dag_run", "job", "log", "rendered_task_instance_fields", "serialized_dag", "task_instance", "xcom")
METRICS = (
    Metric(
        "job_heartbeat_age_seconds",
        "Seconds since the newest heartbeat of a kind of component.",
        """
        SELECT job_type, greatest(0, extract(epoch FROM now() - max(latest_heartbeat))) FROM job
        WHERE job_type IN ('SchedulerJob', 'DagProcessorJob', 'TriggererJob') GROUP BY job_type
        """,
        ("job_type",),
    ),
    Metric(
        "task_instances",
        "Task instances that are not at their end, by state.",
        f"SELECT state, count(*) FROM task_instance WHERE state IN {UNFINISHED_TASKS} GROUP BY state",  # noqa: S608
        ("state",),
        _each(*UNFINISHED_TASKS),
    ),
    Metric(
        "task_instance_oldest_seconds",
        "Seconds that the oldest task instance has waited: since it was scheduled, or since it was queued.",
        """
        SELECT state, greatest(0, extract(epoch FROM
          now() - min(CASE state WHEN 'queued' THEN queued_dttm ELSE scheduled_dttm END)))
        FROM task_instance WHERE state IN ('scheduled', 'queued') GROUP BY state
        """,
        ("state",),
        _each("scheduled", "queued"),
    ),
    Metric(
        "queue_wait_seconds",
        "Seconds from queued to running: of task instances begun in the last ten minutes, and so far of those queued.",
        # A task that resumes after a deferral keeps its first start, which is before it was queued again. What began in
        # the last ten minutes has had a heartbeat since, and that column has an index.
        """
        WITH waits AS (
          SELECT extract(epoch FROM start_date - queued_dttm) AS wait FROM task_instance
          WHERE last_heartbeat_at > now() - interval '10 minutes' AND start_date > now() - interval '10 minutes'
            AND start_date >= queued_dttm
          UNION ALL
          SELECT greatest(0, extract(epoch FROM now() - queued_dttm)) FROM task_instance
          WHERE state = 'queued' AND queued_dttm IS NOT NULL
        )
        SELECT quantile::text, coalesce((SELECT percentile_cont(quantile) WITHIN GROUP (ORDER BY wait) FROM waits), 0)
        FROM unnest(ARRAY[0.5, 0.95, 1]::float[]) AS quantile
        """,
        ("quantile",),
    ),
    Metric(
        "task_heartbeat_oldest_seconds",
        "Seconds since the heartbeat of that running task instance whose last one is the oldest.",
        """
        SELECT coalesce(greatest(0, extract(epoch FROM now() - min(last_heartbeat_at))), 0) FROM task_instance
        WHERE state IN ('running', 'restarting')
        """,
    ),
    Metric(
        "dag_runs",
        "DAG runs that are not at their end, by state.",
        "SELECT state, count(*) FROM dag_run WHERE state IN ('queued', 'running') GROUP BY state",
        ("state",),
        _each("queued", "running"),
    ),
    Metric(
        "dag_run_oldest_seconds",
        "Seconds since the oldest run of a state was queued, or began.",
        """
        SELECT state, greatest(0, extract(epoch FROM
          now() - min(CASE state WHEN 'queued' THEN queued_at ELSE start_date END)))
        FROM dag_run WHERE state IN ('queued', 'running') GROUP BY state
        """,
        ("state",),
        _each("queued", "running"),
    ),
    Metric(
        "dag_runs_stuck",
        "Running DAG runs, of DAGs that are not paused, none of whose task instances has anything to wait for; by DAG.",
        # A task instance changed in the last ten minutes: the scheduler may not have come to the next one yet.
        f"""
        SELECT dag_run.dag_id, count(*) FROM dag_run JOIN dag USING (dag_id)
        WHERE dag_run.state = 'running' AND NOT dag.is_paused AND dag_run.start_date < now() - interval '10 minutes'
          AND NOT EXISTS (
            SELECT FROM task_instance AS ti WHERE ti.dag_id = dag_run.dag_id AND ti.run_id = dag_run.run_id
              AND (ti.state IN {UNFINISHED_TASKS} OR ti.updated_at > now() - interval '10 minutes')
          )
        GROUP BY dag_run.dag_id ORDER BY count(*) DESC, dag_run.dag_id LIMIT {STUCK_RUNS_TOLD}
        """,  # noqa: S608
        ("dag_id",),
    ),
    Metric(
        "dag_info",
        "1 for each DAG that is served, with its owner: what other metrics say of DAGs can be summed up by team.",
        "SELECT dag_id, coalesce(owners, ''), 1 FROM dag WHERE NOT is_stale",
        ("dag_id", "owner"),
    ),
    Metric("size_bytes", "Bytes of the metadata database.", "SELECT pg_database_size(current_database())"),
    Metric(
        "table_bytes",
        "Bytes of a table with its indexes and what lies out of line.",
        f"SELECT name, pg_total_relation_size(to_regclass(name)) FROM unnest(ARRAY[{str(TABLES)[1:-1]}]) AS name",  # noqa: S608
        ("table",),
    ),
    Metric(
        "xcom_largest_bytes",
        "Bytes, as stored, of the largest XCom of the runs that are running or were due in the last hour.",
        # One lookup in the primary key for each run: a join would read the whole table.
        """
        SELECT coalesce(max((SELECT max(pg_column_size(value)) FROM xcom WHERE xcom.dag_run_id = dag_run.id)), 0)
        FROM dag_run WHERE state = 'running' OR run_after > now() - interval '1 hour'
        """,
    ),
    Metric(
        "connections",
        "Connections to the PostgreSQL server, to whichever of its databases.",
        "SELECT sum(numbackends) FROM pg_stat_database",
    ),
    Metric(
        "connections_max",
        "Connections that the PostgreSQL server takes from users without special rights.",
        """
        SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END) FROM pg_settings
        WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
        """,
    ),
)


def connect(url: str) -> Engine:
    """The one connection, made when it is needed and again after it broke.

    Args:
        url: Address of the database for SQLAlchemy, with psycopg2 or psycopg 3 as its driver.
    """
    # A host that stopped answering is noticed in ten seconds, not in the kernel's fifteen minutes.
    patience = {"connect_timeout": 5, "keepalives_idle": 10, "tcp_user_timeout": 10000}
    return create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args=patience | {"application_name": "airflow-database-exporter"},
    )


def read(engine: Engine, statement: str) -> list[Sequence[Any]]:
    """The rows of a statement that may neither write nor take long.

    Raises:
        SQLAlchemyError: The database does not answer, or not in time, or refuses.
    """
    with engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT}"))
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}"))
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


class Database(Collector):
    """The database as metrics: each scrape reads it again."""

    def __init__(self, engine: Engine) -> None:
        """Keep the way to the database."""
        self._engine = engine
        self._one_at_a_time = Lock()

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: the registry would otherwise read the database to learn the names."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges; of a database that does not answer, only that."""
        with self._one_at_a_time:
            start = time.monotonic()
            reachable = self._answers()
            yield _gauge("up", "Whether the metadata database answers.", [(reachable,)])
            if reachable:
                yield from self._metrics()
            yield _gauge("scrape_seconds", "Seconds that reading took.", [(time.monotonic() - start,)])

    def _answers(self) -> bool:
        try:
            read(self._engine, "SELECT 1")
        except SQLAlchemyError as error:
            log.warning("the database does not answer: %s", _cause(error))
            return False
        return True

    def _metrics(self) -> Iterator[GaugeMetricFamily]:
        answered: list[tuple[str, bool]] = []
        for metric in METRICS:
            try:
                rows = {tuple(map(str, row[:-1])): row[-1] for row in read(self._engine, metric.statement)}
            except SQLAlchemyError as error:
                log.warning("airflow_database_%s could not be read: %s", metric.name, _cause(error))
                answered.append((metric.name, False))
                continue
            complete = dict.fromkeys(metric.always, 0) | rows
            told = [(*labels, value) for labels, value in complete.items() if value is not None]
            yield _gauge(metric.name, metric.documentation, told, metric.labels)
            answered.append((metric.name, True))
        yield _gauge("query_success", "Whether a metric could be read.", answered, ("query",))


def _gauge(
    name: str, documentation: str, rows: Iterable[Sequence[Any]], labels: Sequence[str] = ()
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"airflow_database_{name}", documentation, labels=labels)
    for *values, value in rows:
        gauge.add_metric(values, float(value))
    return gauge


def _cause(error: SQLAlchemyError) -> str:
    """What the database said, in a line: the error itself shows the statement and a link."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def make_app(engine: Engine) -> Callable[[dict[str, Any], Any], Any]:
    """The two pages as a WSGI application."""
    registry = CollectorRegistry()
    registry.register(Database(engine))
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/metrics":
            return metrics(environ, start_response)
        known = environ["PATH_INFO"] == "/health"
        start_response("200 OK" if known else "404 Not Found", [("Content-Type", "text/plain")])
        return [b"ok\n" if known else b"look at /metrics\n"]

    return app


class _Server(ThreadingMixIn, WSGIServer):
    """The probe is answered while a scrape waits for the database."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Without access logs: a line for each scrape would say nothing."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until the end; the address of the database is in DATABASE_URL, the port in PORT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    app = make_app(connect(os.environ["DATABASE_URL"]))
    with make_server("", int(os.environ.get("PORT", PORT)), app, _Server, _Quiet) as server:
        log.info("serving /metrics on port %d", server.server_port)
        server.serve_forever()


if __name__ == "__main__":
    main()
