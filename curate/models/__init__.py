"""Models by name: catalogue, cache, checks of model folders, loading without remote code."""
