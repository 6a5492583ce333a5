"""How the platform looks at itself: health, freshness, cost."""
