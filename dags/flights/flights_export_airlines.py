"""A DAG for Airflow, made from the file in config/snapshots that has the name of this one, as this one itself."""

from flights.library.exports import export_dag

dag = export_dag(__file__)
