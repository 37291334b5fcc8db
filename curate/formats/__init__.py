"""One raw data layout a file, and the way from it to our columns and back."""
