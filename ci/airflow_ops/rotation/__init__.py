"""Rotation of the keys, passwords and credentials of an environment, one module per kind; see docs/adr/0011."""
