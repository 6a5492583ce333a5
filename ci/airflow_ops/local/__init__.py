"""The platform on this machine: no cluster, no container engine, no chart."""
