"""Rows in, scores, decisions, and the reason for each: the curation half of Siftune."""

if __name__ != "siftune.curate":
    raise ImportError("import siftune.curate: this folder is a part of the package siftune")
