"""What a deploy looks at before it changes anything: whether PgBouncer lets DAG processor and triggerer in."""

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_ops.cluster.connection import StoredSecret
from airflow_ops.console import ProblemError
from airflow_ops.deployment import preflight
from airflow_ops.environments.environment import Environment

LOGIN = {"connection": "postgresql+psycopg2://airflow_dag_code:hunter2@airflow-pgbouncer:6543/airflow"}
USERS = '"airflow" "other"\n"airflow_dag_code" "hunter2"\n'


def check(environment: str, login: dict[str, str] | None, **pooler: str) -> None:
    stored = {"airflow-pgbouncer": StoredSecret(pooler, "1")}
    if login is not None:
        stored["airflow-metadata-dag-code"] = StoredSecret(login, "1")
    cluster: Any = SimpleNamespace(environment=Environment.load(environment), stored_secret=stored.get)
    preflight.check_pooler(cluster)


@pytest.mark.parametrize("users", ['"airflow" "other"\n', '"airflow_dag_code_a" "hunter2"\n', ""])
def test_a_login_that_pgbouncer_does_not_know_is_named(users: str) -> None:
    with pytest.raises(ProblemError) as refused:
        check("prod", LOGIN, **{"users.txt": users})
    assert "airflow-pgbouncer does not have the login 'airflow_dag_code'" in str(refused.value)
    assert "hunter2" not in str(refused.value) + refused.value.fix


@pytest.mark.parametrize(
    ("environment", "login", "pooler"),
    [
        ("prod", LOGIN, {"users.txt": USERS}),
        ("prod", LOGIN, {"pgbouncer.ini": "auth_query = SELECT 1"}),
        ("prod", None, {}),
        ("dev", LOGIN, {}),
    ],
    ids=["listed", "looked up in the database", "not made yet", "without PgBouncer"],
)
def test_nothing_else_is_refused(environment: str, login: dict[str, str] | None, pooler: dict[str, str]) -> None:
    check(environment, login, **pooler)
