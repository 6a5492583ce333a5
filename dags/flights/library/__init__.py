"""What the DAGs of flights share: `from flights.library.tables import ...`. The folder above has no `__init__.py`."""
