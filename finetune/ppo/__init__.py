"""Proximal policy optimisation: pure functions, rollouts, the two-headed model, the loop."""
