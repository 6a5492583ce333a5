"""What tasks cost: requests of their size, held for as long as they ran, by the prices of `dags/config/prices.yaml`.

An estimate for comparing DAGs and teams, not a bill: a pod's start and end are not counted, a wait in the triggerer is
(it is part of a task's duration in Airflow, though no pod is held), and idle nodes are not charged to anybody.
"""

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.sql.hooks.sql import DbApiHook

from shared.authoring.resources import SizeName, sizes
from shared.configuration import CONFIG, Closed, Positive, Text, read
from shared.loading.warehouse import create, execute, insert, query, transaction
from shared.watching.platform_api import pages

PRICES = CONFIG / "prices.yaml"
DEFAULT_SIZE = "default"
FINISHED = ["success", "failed", "upstream_failed", "skipped"]
TABLE = """CREATE TABLE IF NOT EXISTS task_costs (
    day DATE NOT NULL, team TEXT NOT NULL, dag_id TEXT NOT NULL, task_id TEXT NOT NULL, size TEXT NOT NULL,
    tries INTEGER NOT NULL, seconds DOUBLE PRECISION NOT NULL, cost DOUBLE PRECISION NOT NULL, currency TEXT NOT NULL,
    PRIMARY KEY (day, dag_id, task_id, size))"""
COLUMNS = ("day", "team", "dag_id", "task_id", "size", "tries", "seconds", "cost", "currency")
UNITS = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1.0}
Tries = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Prices(Closed):
    """Prices by the hour in one currency.

    Attributes:
        currency: ISO 4217.
        cpu_core_hour: Of a core.
        memory_gib_hour: Of a GiB of memory.
        size_share: Share of the price by size; 1 where a size is not named.
    """

    currency: Text
    cpu_core_hour: Positive
    memory_gib_hour: Positive
    size_share: dict[SizeName, Positive]

    def hourly(self, size: str) -> float:
        """What a worker of a size costs an hour.

        Raises:
            KeyError: There is no such size.
        """
        requests = sizes()[size].requests
        cpu, memory = amount(requests["cpu"]), amount(requests["memory"]) / 2**30
        return (cpu * self.cpu_core_hour + memory * self.memory_gib_hour) * self.size_share.get(size, 1.0)


@dataclass
class TaskCost:
    """What one task cost on one day: seconds of all its tries and instances, money in the currency of the prices."""

    team: str
    dag_id: str
    task_id: str
    size: str
    tries: int = 0
    seconds: float = 0.0


def load_prices(path: Path = PRICES) -> Prices:
    """The prices.

    Raises:
        ValueError: A key is missing, unknown or wrong, or there is no such size; file and key are named.
    """
    return read(path, Prices)


def amount(quantity: str | float) -> float:
    """A Kubernetes quantity as a number: `250m` is 0.25, `1Gi` is 1073741824."""
    found = re.fullmatch(r"([\d.]+)(m|Ki|Mi|Gi)?", str(quantity))
    if found is None:
        raise ValueError(f"{quantity!r} is not a quantity such as 250m or 512Mi.")
    return float(found[1]) * UNITS[found[2] or ""]


def costs_of(instances: Iterable[dict[str, Any]], teams: dict[str, str], tries: Tries) -> list[TaskCost]:
    """Add up task instances by DAG, task and size.

    Args:
        instances: As the REST API has them.
        teams: Team by DAG.
        tries: Gives all tries of an instance that was tried more than once: each held a pod.
    """
    found: dict[tuple[str, str, str], TaskCost] = {}
    for instance in instances:
        size = _size(instance)
        key = (instance["dag_id"], instance["task_id"], size)
        team = teams.get(instance["dag_id"], "unknown")
        cost = found.setdefault(key, TaskCost(team, instance["dag_id"], instance["task_id"], size))
        for one in tries(instance) if instance["try_number"] > 1 else [instance]:
            if one["duration"]:
                cost.tries += 1
                cost.seconds += one["duration"]
    return sorted(found.values(), key=lambda cost: (cost.dag_id, cost.task_id, cost.size))


def costs_of_day(api: Any, day: date) -> list[TaskCost]:
    """The tasks that ended on a day (UTC), with all their tries.

    Args:
        api: What `shared.watching.platform_api.logged_in` gave.
        day: Over, so that the answer stays the same.
    """
    teams = {
        dag["dag_id"]: ", ".join(sorted(dag["owners"])) for dag in pages(api, "/dags", "dags", exclude_stale=False)
    }
    span = {"end_date_gte": f"{day}T00:00:00Z", "end_date_lt": f"{day + timedelta(days=1)}T00:00:00Z"}
    instances = pages(api, "/dags/~/dagRuns/~/taskInstances", "task_instances", **span, state=FINISHED, order_by="id")

    def tries(instance: dict[str, Any]) -> list[dict[str, Any]]:
        run = f"/api/v2/dags/{instance['dag_id']}/dagRuns/{instance['dag_run_id']}/taskInstances/{instance['task_id']}"
        mapped = f"/{instance['map_index']}" if instance["map_index"] >= 0 else ""
        found: list[dict[str, Any]] = api.get(f"{run}{mapped}/tries").raise_for_status().json()["task_instances"]
        return found

    return costs_of(instances, teams, tries)


def record(hook: DbApiHook, day: date, costs: Sequence[TaskCost], prices: Prices) -> None:
    """Put a day's costs in place of what is there, in one transaction."""
    create(hook, [TABLE])
    rows = [
        (
            *(day.isoformat(), cost.team, cost.dag_id, cost.task_id, cost.size, cost.tries, cost.seconds),
            *(cost.seconds / 3600 * prices.hourly(cost.size), prices.currency),
        )
        for cost in costs
    ]
    with transaction(hook) as cursor:
        execute(hook, cursor, "DELETE FROM task_costs WHERE day = ?", [day.isoformat()])
        insert(hook, cursor, "task_costs", COLUMNS, rows)


def render(hook: DbApiHook, day: date) -> str:
    """The report on a day and the 30 before it, by team, DAG and task: one page of HTML."""
    parts = [
        f"<h1>Cost of tasks on {day}</h1><p>Requests times duration; an estimate (dags/shared/watching/cost.py).</p>"
    ]
    for title, columns in (("Team", ["team"]), ("DAG", ["team", "dag_id"]), ("Task", ["dag_id", "task_id", "size"])):
        names = ", ".join(columns)
        sql = f"""SELECT {names}, SUM(CASE WHEN day = ? THEN cost ELSE 0 END) AS today,
            SUM(CASE WHEN day = ? THEN seconds ELSE 0 END) AS seconds, SUM(cost) AS month, currency
            FROM task_costs WHERE day > ? AND day <= ? GROUP BY {names}, currency
            ORDER BY month DESC, {names}"""  # noqa: S608  names are those above
        span = [day.isoformat(), day.isoformat(), (day - timedelta(days=31)).isoformat(), day.isoformat()]
        head = "".join(f"<th>{name}</th>" for name in (*columns, "cost", "hours", "31 days"))
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(str(row[name]))}</td>" for name in columns)
            + f"<td>{row['today']:.4f} {row['currency']}</td><td>{row['seconds'] / 3600:.2f}</td>"
            + f"<td>{row['month']:.4f} {row['currency']}</td></tr>"
            for row in query(hook, sql, span)
        )
        parts.append(f"<h2>{title}</h2><table><tr>{head}</tr>{rows}</table>")
    return f"<!doctype html><meta charset=utf-8><title>Cost {day}</title>{''.join(parts)}\n"


def _size(instance: dict[str, Any]) -> str:
    """The size that a task named; the API gives its executor_config as text."""
    found = re.search(r"/pod_templates/(\w+)\.yaml", instance["executor_config"] or "")
    return found[1] if found and found[1] in sizes() else DEFAULT_SIZE
