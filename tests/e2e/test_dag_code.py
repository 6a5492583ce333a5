"""What the code of a DAG sees and may do outside of its tasks: docs/security.md says so."""

import json

from airflow_client.client import DAGApi

from airflow_ops.cluster.connection import Cluster
from airflow_ops.console import ProblemError
from airflow_ops.paths import ROOT
from support.live_environment import Airflow, DagRepository, wait_for

DAG = "e2e_show_keys"
FOREIGN = "e2e_foreign_trigger"


def test_it_sees_the_fernet_key_and_no_other(airflow: Airflow, dag_repository: DagRepository) -> None:
    path = f"dags/platform/{DAG}.py"
    commit = dag_repository.push({path: (ROOT / f"tests/e2e/dags/{DAG}.py").read_text()})
    wait_for("the DAG", lambda: airflow.serves(DAG, commit), 120)
    seen = json.loads(DAGApi(airflow.client).get_dag_details(DAG).doc_md or "null")
    assert seen == ["AIRFLOW__CORE__FERNET_KEY"]


def test_what_runs_in_the_triggerer_has_a_login_that_may_do_little(
    cluster: Cluster, airflow: Airflow, dag_repository: DagRepository
) -> None:
    """Airflow calls any class that a task names as its trigger, so this is what bounds it."""
    path = f"dags/platform/{FOREIGN}.py"
    commit = dag_repository.push({path: (ROOT / f"tests/e2e/dags/{FOREIGN}.py").read_text()})
    wait_for("the DAG", lambda: airflow.serves(FOREIGN, commit), 120)
    airflow.unpause(FOREIGN)
    run = airflow.trigger(FOREIGN)
    assert airflow.wait_for_end(FOREIGN, run) == "failed", "Popen is no trigger"

    def notes() -> str:
        triggerer = ("exec", "deployment/airflow-blue-triggerer", "--container", "triggerer", "--")
        try:
            return cluster.kubectl(*triggerer, "cat", f"/tmp/{FOREIGN.replace('_', '-')}")  # noqa: S108
        except ProblemError:
            return ""

    assert json.loads(wait_for("the program's notes", notes, 60)) == {
        "keys": ["AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY"],
        "SELECT count(*) FROM task_instance": "done",
        "SELECT count(*) FROM ab_user": "InsufficientPrivilege",
        "UPDATE task_instance SET executor_config = 'x'": "InsufficientPrivilege",
        "UPDATE connection SET password = 'x'": "InsufficientPrivilege",
        "CREATE TABLE own (id int)": "InsufficientPrivilege",
    }
