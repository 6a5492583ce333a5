"""An environment: its values, contexts, namespace and image, and the official chart that it uses."""
