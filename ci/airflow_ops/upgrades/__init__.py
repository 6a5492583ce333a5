"""Blue-green upgrades: the other colour is started beside the active one, takes over its work, and can give it back."""
