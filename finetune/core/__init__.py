"""Shapes and facts that every part shares: trainers, intervals, distributed processes."""
