"""Columnar JSON Lines reader: blocks of lines to Arrow columns, without Python values per row."""
