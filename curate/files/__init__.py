"""Files on disk: atomic writes, outputs and their marker, byte streams, YAML, JSON text."""
