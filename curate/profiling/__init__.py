"""Profile of a set of rows before any decision: what is looked at, its cost, text and HTML."""
