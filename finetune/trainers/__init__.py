"""Trainers, one a file."""
