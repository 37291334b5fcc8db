"""Objectives, one a file; the folder says what a loss is given."""
