"""What a DAG is composed of: groups of tasks, branches, sensors, limits by the volume of data."""
