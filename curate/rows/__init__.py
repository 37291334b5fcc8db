"""Tables of rows: texts of conversations, columns, decisions, conversion to Python values."""
