"""Siftune and its peers side by side on the same data; `python -m benchmarks` runs it."""
