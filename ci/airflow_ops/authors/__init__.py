"""What a DAG author works with: `airflow-ops dags ...`."""
