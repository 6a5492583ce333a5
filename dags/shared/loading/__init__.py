"""Rows into the warehouse: tables, quality, staging, incremental loads."""
