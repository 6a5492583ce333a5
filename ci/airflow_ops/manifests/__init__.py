"""The objects that Helm renders, as files, and compared with a commit or a cluster."""
