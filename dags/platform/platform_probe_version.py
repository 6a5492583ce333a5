"""A DAG for Airflow, made from the file in config/snapshots that has the name of this one, as this one itself."""

from shared.patterns.snapshot_dags import snapshot_dag

dag = snapshot_dag(__file__)
