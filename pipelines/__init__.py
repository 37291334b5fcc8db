"""From raw rows to an aligned model in one run, and the report on it."""
