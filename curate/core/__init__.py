"""Shapes that every part shares: types, schema, errors, registry, progress."""
