"""Personal data and secrets in texts: patterns, names by a model, and where they are."""
