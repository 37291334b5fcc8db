"""Rows compared: equality, words, n-grams, and what two sets of n-grams share."""
