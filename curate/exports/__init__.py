"""Layouts of trainers for `siftune curate export`: one layout a file."""
