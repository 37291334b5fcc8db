"""Measures of a trained arm on held-out rows, one a file."""
