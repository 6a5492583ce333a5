"""The platform on this machine, without cluster, container engine or chart."""
