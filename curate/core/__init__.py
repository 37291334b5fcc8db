"""Types that every package shares: schema, component protocols, errors, registry, progress."""
