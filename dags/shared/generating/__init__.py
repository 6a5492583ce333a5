"""DAGs that are made from configuration: one a tenant, one a snapshot of a database or an API."""
