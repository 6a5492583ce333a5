"""The `airflow-ops` command: everything this repository does, one module per verb."""
