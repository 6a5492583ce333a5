"""From values to a running environment."""
