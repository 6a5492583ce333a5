"""A DAG for Airflow, made from the file in config/snapshots that has the name of this one, as this one itself."""

from shared.generating.probes import probe_dag

dag = probe_dag(__file__)
