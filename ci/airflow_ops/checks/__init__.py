"""The checks of an environment that need no cluster."""
