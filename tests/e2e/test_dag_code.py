"""What the code of a DAG sees where it is parsed: docs/security.md says so."""

import json

from airflow_client.client import DAGApi

from airflow_ops.paths import ROOT
from support.live_environment import Airflow, DagRepository, wait_for

DAG = "e2e_show_keys"


def test_it_sees_the_fernet_key_and_no_other(airflow: Airflow, dag_repository: DagRepository) -> None:
    path = f"dags/platform/{DAG}.py"
    commit = dag_repository.push({path: (ROOT / f"tests/e2e/dags/{DAG}.py").read_text()})
    wait_for("the DAG", lambda: airflow.serves(DAG, commit), 120)
    seen = json.loads(DAGApi(airflow.client).get_dag_details(DAG).doc_md or "null")
    assert seen == ["AIRFLOW__CORE__FERNET_KEY"]
