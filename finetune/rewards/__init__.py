"""What a completion is worth: one reward a file, text in, a number or null out."""
