"""The two colours of an environment on its cluster: what runs of each, which one is active, and the last upgrade."""
