"""Run folders: recipe, stored stages, manifest, and the trace of one row."""
