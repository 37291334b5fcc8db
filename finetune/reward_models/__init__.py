"""Reward models after training: calibration, out-of-distribution distances, ensembles, coverage."""
