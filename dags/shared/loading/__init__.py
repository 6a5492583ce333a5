"""Rows on their way into the warehouse: files, tables, quality gate, staging, idempotent loads."""
