"""What each DAG file imports: defaults, sizes, retries, notifications, settings."""
