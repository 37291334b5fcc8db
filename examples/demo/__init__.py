"""A made-up world with planted faults, and how much selection of its rows helps training."""
