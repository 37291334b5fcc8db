"""How good a token was, beyond what was expected: one estimator a file."""
