"""The objects that Helm renders: written to files, and compared with a commit or a cluster."""
