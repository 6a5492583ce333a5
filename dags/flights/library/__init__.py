"""What the DAGs of the flights domain share."""
