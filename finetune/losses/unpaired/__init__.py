"""Losses on single completions that carry a label, a reward or a win probability."""
