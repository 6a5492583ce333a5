"""Parts that DAGs are built from: operators, sensors, branches, generated DAGs."""
