"""Siftune as a user would call it: one script a contestant, each in its own process."""
