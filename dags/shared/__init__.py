"""The library of the DAGs in this bundle; `dags/` is on the import path when a DAG is parsed and when it runs."""
