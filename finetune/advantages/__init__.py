"""How good an action was, beyond what was expected: one estimator a file."""
