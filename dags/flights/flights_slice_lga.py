"""A tenant's DAG for Airflow, made from the file in config/tenants that has the name of this one."""

from flights.library.tenants import slice_dag

dag = slice_dag(__file__)
