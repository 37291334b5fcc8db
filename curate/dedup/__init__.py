"""Exact and near-duplicate search: hashes, shingle sets, MinHash, exact join, cover rule."""
