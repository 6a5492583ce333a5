"""What a DAG author works with: `airflow-ops dags ...`, and the inspection behind it."""
