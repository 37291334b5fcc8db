"""Export of kept rows: layouts of trainers and tools, files, and a dataset card."""
