"""Generating text: sampling, and mixtures of two policies."""
