"""A tenant's DAG for Airflow, made from the file in config/pipelines that has the name of this one."""

from flights.library.tenants import tenant_dag

dag = tenant_dag(__file__)
