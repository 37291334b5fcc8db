"""Columnar JSON lines reader: blocks of lines to Arrow columns, without a Python value a row."""
