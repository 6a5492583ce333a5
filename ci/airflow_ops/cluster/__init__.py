"""One environment on one cluster: the Kubernetes API, Airflow's REST API, Jobs, rollouts."""
