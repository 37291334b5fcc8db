"""Files on disk: atomic writes, output paths and their marker, YAML, JSON text, pipes."""
