"""A tenant's DAG for Airflow, made from the file in config/pipelines that has the name of this one."""

from shared.tenants import tenant_dag

dag = tenant_dag(__file__)
