"""Losses on pairs of completions."""
