"""What every DAG file states: default arguments, sizes, partitions, who is notified; and the settings."""
