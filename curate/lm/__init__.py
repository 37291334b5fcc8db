"""Likelihoods of answers and hidden states of rows, for scorers that share one forward pass."""
