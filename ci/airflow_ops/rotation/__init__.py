"""Rotation of what an environment keeps secret, a module a kind; see docs/adr/0011."""
