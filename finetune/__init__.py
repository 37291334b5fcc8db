"""Training on what was kept."""
