"""What can be known about an environment without a cluster."""
