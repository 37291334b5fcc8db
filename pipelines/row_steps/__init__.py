"""Steps of a pipeline that make rows, one a file: answers of a model, rows selected again."""
