"""The demo: a small world of facts, data with planted faults around it, and a run over both."""
