"""The `airflow-ops` command: everything this repository does, one verb a module."""
