"""Backups of the metadata database, and the way back from one."""
