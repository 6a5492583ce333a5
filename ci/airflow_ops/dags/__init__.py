"""The commands for DAG authors, `airflow-ops dags ...`, and the inspection of DAG files."""
