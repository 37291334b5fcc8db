"""Raw data layouts, one a file, with conversion to our columns and back."""
