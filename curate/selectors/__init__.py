"""Selectors, one a file: each row gets a decision (keep or drop) and a reason."""
