"""Writing kept rows in the layouts of trainers and tools, with a data card."""
