"""A made-up world with planted faults, and what selection is worth there."""
