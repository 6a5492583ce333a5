"""Deploy an environment: preflight, Helm, DAGs, smoke test."""
