"""Let a whole Airflow of this image work on a copy of the metadata database. Runs in a pod, beside nothing else.

    python -c PROGRAM try NAME     start API server, scheduler, DAG processor and triggerer; read, write, run a DAG
    python -c PROGRAM drop         drop the copy

What `try` finds goes to WORK/NAME.json and, with what earlier programs wrote there, into the last line, `result: JSON`.
Environment: CONNECTION and CONNECTION_ADMIN as for backup.py (charts/platform), DATABASE (name of the copy), WORK.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

HOME = Path("/tmp/airflow")  # noqa: S108 an emptyDir of the pod
PORT = 8080
API = f"http://127.0.0.1:{PORT}"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
START_SECONDS = 300
RUN_SECONDS = 300
DAG = "airflow_rehearsal"
DAG_FILE = """
from datetime import timedelta
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, get_current_context, task

class Defer(BaseOperator):
    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")
    def resume(self, context, event):
        return "resumed"

@task
def numbers():
    return [1, 2]

@task
def mapped(number):
    return number

@task(retries=1, retry_delay=timedelta(seconds=1))
def retried():
    if get_current_context()["ti"].try_number == 1:
        raise RuntimeError("the first try fails, as planned")

@dag(schedule=None)
def airflow_rehearsal():
    mapped.expand(number=numbers()) >> Defer(task_id="defer")
    retried()

airflow_rehearsal()
"""
COMPONENTS = {
    "api-server": ["api-server", "--host", "127.0.0.1", "--port", str(PORT), "--workers", "1"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
READ = (
    *("assets", "assets/events", "connections", "dagStats", "dagTags", "dagWarnings", "dags", "eventLogs"),
    *("importErrors", "jobs", "monitor/health", "plugins", "pools", "providers", "variables"),
    *("dags/~/dagRuns", "dags/~/dagRuns/~/taskInstances", "dags/~/dagVersions"),
)
"""What is read from the REST API, the newest hundred of each. A version without one of them answers 404."""
FINISHED = "('success', 'failed', 'skipped', 'upstream_failed', 'removed')"
SANITISE = (
    "UPDATE dag SET is_paused = true",
    "UPDATE dag_run SET state = 'failed' WHERE state NOT IN ('success', 'failed')",
    f"UPDATE task_instance SET state = 'failed' WHERE state NOT IN {FINISHED}",  # noqa: S608 our own words
    "UPDATE connection SET host = NULL, login = NULL, password = NULL, extra = NULL, is_encrypted = false, "
    "is_extra_encrypted = false",
    "UPDATE variable SET val = '', is_encrypted = false",
    "DELETE FROM job",
)
EMPTIED = ("deadline", "deadline_alert", "callback_request", "callback", "connection_test_request", "trigger")
"""Tables whose rows Airflow would run: code of users. What refers to a row of them refers to nothing then."""
REFERENCES = """
SELECT c.conrelid::regclass::text, a.attname, a.attnotnull FROM pg_constraint c
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND c.confrelid = to_regclass(:table)
"""


class ProblemError(Exception):
    """What does not work, in words for the user."""


def address() -> sa.URL:
    """Address of the copy."""
    return sa.make_url(os.environ["CONNECTION"]).set(database=os.environ["DATABASE"])


def sanitise(connection: sa.Connection) -> None:
    """Leave nothing in the copy that Airflow would run, and no secret."""
    for statement in SANITISE:
        connection.execute(sa.text(statement))
    for table in EMPTIED:
        if connection.scalar(sa.text("SELECT to_regclass(:table)"), {"table": table}):
            empty(connection, table)


def empty(connection: sa.Connection, table: str) -> None:
    """Delete all rows of a table, and what must refer to them."""
    for other, column, required in connection.execute(sa.text(REFERENCES), {"table": table}).all():
        if required and other != table:
            empty(connection, other)
        elif not required:
            connection.execute(sa.text(f'UPDATE {other} SET "{column}" = NULL WHERE "{column}" IS NOT NULL'))  # noqa: S608 names of the catalogue
    connection.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608 as above


def settings() -> dict[str, str]:
    """Environment of the components: everything in this pod, with keys of its own."""
    manager = FAB if os.environ["AUTH_MANAGER"] == FAB else SIMPLE
    return {
        **os.environ,
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
        "AIRFLOW__CORE__AUTH_MANAGER": manager,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{API}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(manager == SIMPLE),
        "AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": address().render_as_string(hide_password=False),
        # psycopg 3, which has a driver for both; the other one is not in every image.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": address()
        .set(drivername="postgresql+psycopg")
        .render_as_string(hide_password=False),
    }


class Trial:
    """A running Airflow on the copy."""

    def __init__(self) -> None:
        """Write the DAG and start the components."""
        (HOME / "dags").mkdir(parents=True, exist_ok=True)
        (HOME / "dags" / f"{DAG}.py").write_text(DAG_FILE)
        self.env = settings()
        self.processes = {name: self._start(name, words) for name, words in COMPONENTS.items()}
        self.session = httpx.Client(base_url=API, timeout=60)

    def _start(self, name: str, words: list[str]) -> "subprocess.Popen[bytes]":
        with self.log(name).open("wb") as output:
            return subprocess.Popen(["airflow", *words], env=self.env, stdout=output, stderr=subprocess.STDOUT)

    @staticmethod
    def log(name: str) -> Path:
        """Log of a component."""
        return HOME / f"{name}.log"

    def stop(self) -> None:
        """Stop the components."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def wait_for(self, what: str, look: Callable[[], Any], seconds: float) -> Any:
        """Wait until `look` gives something true.

        Raises:
            ProblemError: It does not in time, or a component has ended.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended:
                raise ProblemError(f"{ended[0]} ended: {self.last_line(ended[0])}")
            if found := look():
                return found
            time.sleep(0.5)
        raise ProblemError(f"{what} did not happen in {seconds:.0f} s")

    def last_line(self, name: str) -> str:
        """The last line that a component printed."""
        return (self.log(name).read_text().strip().splitlines() or ["it printed nothing"])[-1]

    def answers(self) -> bool:
        """Whether the API server answers."""
        try:
            return self.session.get("/api/v2/version").status_code == 200
        except httpx.TransportError:
            return False

    def login(self) -> None:
        """Log in as a user that is made for this."""
        if self.env["AIRFLOW__CORE__AUTH_MANAGER"] == FAB:
            user, password = f"rehearsal-{secrets.token_hex(4)}", secrets.token_urlsafe()
            words = ["--username", user, "--role", "Admin", "--email", f"{user}@localhost"]
            command = ["airflow", "users", "create", *words, "--firstname", user, "--lastname", user]
            twice = f"{password}\n{password}\n"
            made = subprocess.run(command, env=self.env, input=twice, capture_output=True, text=True, check=False)
            if made.returncode:
                raise ProblemError(f"no user can be made: {made.stderr.strip().splitlines()[-1]}")
            answer = self.session.post("/auth/token", json={"username": user, "password": password})
        else:
            answer = self.session.get("/auth/token")
        if answer.is_error:
            raise ProblemError(f"nobody can log in: {answer.status_code}")
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def unreadable(self) -> list[str]:
        """What the REST API cannot read, with its status."""
        found = {path: self.session.get(f"/api/v2/{path}", params={"limit": 100}).status_code for path in READ}
        return [f"GET {path} answers {status}" for path, status in found.items() if status >= 500]

    def unwritable(self) -> list[str]:
        """What the REST API cannot write, with its status."""
        name = f"rehearsal-{secrets.token_hex(4)}"
        made = {
            "variables": (name, {"key": name, "value": "x"}),
            "connections": (name, {"connection_id": name, "conn_type": "http"}),
            "pools": (name, {"name": name, "slots": 1}),
        }
        lines = []
        for path, (key, body) in made.items():
            posted = self.session.post(f"/api/v2/{path}", json=body)
            deleted = self.session.delete(f"/api/v2/{path}/{key}")
            lines += [f"POST {path} answers {posted.status_code}"] if posted.is_error else []
            lines += [f"DELETE {path} answers {deleted.status_code}"] if deleted.is_error else []
        return lines

    def run(self) -> list[str]:
        """Run the DAG; gives what is wrong with its run."""
        dag = f"/api/v2/dags/{DAG}"
        self.wait_for("the parse of a new DAG", lambda: self.session.get(dag).status_code == 200, START_SECONDS)
        self.session.patch(dag, json={"is_paused": False}).raise_for_status()
        posted = self.session.post(f"{dag}/dagRuns", json={"logical_date": None})
        if posted.is_error:
            return [f"POST dagRuns answers {posted.status_code}"]
        run = f"{dag}/dagRuns/{posted.json()['dag_run_id']}"

        def ended() -> str:
            answer = self.session.get(run)
            state = str(answer.json()["state"]) if answer.is_success else str(answer.status_code)
            return state if state in ("success", "failed") else ""

        if self.wait_for("the end of a run", ended, RUN_SECONDS) == "success":
            return []
        tasks = self.session.get(f"{run}/taskInstances").json()["task_instances"]
        bad = [f"{task['task_id']} is {task['state']}" for task in tasks if task["state"] != "success"]
        return [f"a run failed: {', '.join(bad)}"]


def attempt() -> dict[str, Any]:
    """Everything that a whole Airflow should do; gives what it cannot, and how long it took."""
    began = time.monotonic()
    trial = Trial()
    try:
        trial.wait_for("an answer of the API server", trial.answers, START_SECONDS)
        started = time.monotonic() - began
        trial.login()
        problems = [*trial.unreadable(), *trial.unwritable(), *trial.run(), *trial.unreadable()]
    except (ProblemError, httpx.HTTPError) as error:
        started, problems = time.monotonic() - began, [str(error)]
    finally:
        trial.stop()
    if problems:
        for name in COMPONENTS:
            print(f"--- {name}", *trial.log(name).read_text().splitlines()[-60:], sep="\n", flush=True)
    return {
        "problems": list(dict.fromkeys(problems)),
        "start_seconds": round(started, 1),
        "seconds": round(time.monotonic() - began, 1),
    }


def drop() -> None:
    """Drop the copy."""
    own = os.environ.get("CONNECTION_ADMIN") or os.environ["CONNECTION"]
    engine = sa.create_engine(sa.make_url(own).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'DROP DATABASE IF EXISTS "{os.environ["DATABASE"]}" WITH (FORCE)'))


def main(arguments: list[str]) -> dict[str, Any]:
    """Run one command; see the top of this file."""
    if arguments == ["drop"]:
        drop()
        return {}
    work, name = Path(os.environ["WORK"]), arguments[1]
    with sa.create_engine(address()).begin() as connection:
        sanitise(connection)
    (work / f"{name}.json").write_text(json.dumps(attempt()))
    return {path.stem: json.loads(path.read_text()) for path in work.glob("*.json")}


if __name__ == "__main__":
    try:
        print(f"result: {json.dumps(main(sys.argv[1:]))}")
    except sa.exc.SQLAlchemyError as error:
        print(f"problem: {' '.join(str(error.__cause__ or error).split())}")
        sys.exit(1)
