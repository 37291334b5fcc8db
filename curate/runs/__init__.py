"""A run on disk: recipe, stage results, manifest, and the decisions about one row."""
