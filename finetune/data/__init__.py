"""Training data: rows to token ids, collators, packing, and checks before the first step."""
