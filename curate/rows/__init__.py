"""Rows as tables: columns of conversations, decisions about rows, conversion to Python values."""
