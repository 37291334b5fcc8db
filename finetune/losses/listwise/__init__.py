"""Losses on K completions of one prompt, ordered by their scores."""
