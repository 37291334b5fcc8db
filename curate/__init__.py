"""Rows in, scores, decisions, and the reason for each: the curation half of Siftune."""
