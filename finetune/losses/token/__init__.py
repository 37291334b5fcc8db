"""Losses on single completions that are to be imitated, token by token."""
