"""A DAG that would give a role of users a right."""

from airflow.sdk import DAG

dag = DAG("open_to_all", schedule=None, access_control={"Viewer": {"DAGs": {"can_delete"}}})
