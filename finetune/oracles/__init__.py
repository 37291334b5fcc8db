"""Checks of losses: contracts of each family, optima on a finite bandit, the nearest known loss."""
