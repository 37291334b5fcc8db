"""Losses of reward models: one loss a file, on the scores of answers that were compared."""
