"""What an environment is: its values, contexts, releases and image, and the official chart under it."""
